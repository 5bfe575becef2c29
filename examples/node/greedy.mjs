// Greedy text from an export of ferrum, on plain ONNX Runtime:
//   node greedy.mjs out/model.onnx "def fibonacci(n):" 40
// JavaScript cannot register a custom-op library, so the ops run as the reference bodies that the
// model carries: the text is that of exact arithmetic, the speed is not the kernels'.
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { Tokenizer } from "@huggingface/tokenizers";
import { InferenceSession, Tensor } from "onnxruntime-node";

const BLOCK_SIZE = 16; // tokens per block of a cache
const ARRAYS = { float16: Uint16Array, float32: Float32Array }; // of a cache's elements
delete globalThis.Float16Array; // of Node.js 24: onnxruntime-node 1.30 can read only Uint16Array
const fail = (message) => {
  console.error(`greedy.mjs: ${message.replace(/\s+/g, " ")}`);
  process.exit(2);
};

const [path, text, count = "64"] = process.argv.slice(2);
if (!text || !/^[1-9]\d*$/.test(count)) fail('usage: greedy.mjs MODEL.onnx "PROMPT" [MAX TOKENS]');
const beside = (name) => JSON.parse(readFileSync(join(dirname(path), name), "utf8"));
let model, special, tokenizer, session;
try {
  ({ model, tokenizer: special } = beside("ferrum.json"));
  tokenizer = new Tokenizer(beside("tokenizer.json"), beside("tokenizer_config.json"));
  // Folding constants would decode every weight to float32 at load; so they stay packed.
  const extra = { optimization: { disable_specified_optimizers: "ConstantFolding" } };
  session = await InferenceSession.create(path, { extra });
} catch (error) {
  fail(`[${path}] ${error.message} -> an export by ferrum-build, its caches float16 or float32`);
}
let tokens = tokenizer.encode(text, { add_special_tokens: false }).ids;
if (special.add_bos) tokens.unshift(special.bos);
const limit = Math.min(model.context_length, tokens.length + Number(count));
if (tokens.length >= limit) fail(`[prompt] ${tokens.length} tokens -> at most ${limit - 1} fit`);

// A cache is input and output at once: steps write into its memory, so that nothing is copied back.
const free = [...Array(Math.ceil(limit / BLOCK_SIZE)).keys()]; // ids of the blocks not in use
const caches = {}, outputs = { logits: null };
for (const { name, type, shape } of session.inputMetadata) {
  if (!name.startsWith("past_key_values.")) continue;
  const dims = [free.length, BLOCK_SIZE, ...shape.slice(2)];
  caches[name] = new Tensor(type, new ARRAYS[type](dims.reduce((a, b) => a * b)), dims);
  outputs[name.replace("past_key_values", "present")] = caches[name];
}
const table = [], generated = []; // the blocks that hold the sequence, in order; its new tokens
for (let past = 0, shown = 0; past + tokens.length < limit; ) {
  while (table.length * BLOCK_SIZE < past + tokens.length) table.push(free.pop());
  const step = {
    input_ids: new Tensor("int64", tokens, [tokens.length]),
    cumulative_sequence_lengths: new Tensor("int32", [0, tokens.length], [2]),
    past_sequence_lengths: new Tensor("int32", [past], [1]),
    block_table: new Tensor("int32", table, [1, table.length]),
  };
  const { logits } = await session.run({ ...step, ...caches }, outputs);
  past += tokens.length;
  tokens = [logits.data.reduce((best, x, i, all) => (x > all[best] ? i : best), 0)];
  if (special.eos.includes(tokens[0])) break;
  generated.push(tokens[0]);
  const written = tokenizer.decode(generated, { skip_special_tokens: true });
  if (written.endsWith("\ufffd")) continue; // a character whose last bytes are still to come
  process.stdout.write(written.slice(shown));
  shown = written.length;
}
console.log();
