// Tests of the machine that runs kernels on the CPU, by kernels that use one thing each.
#pragma once

#include <cstdint>
#include <string>

#include "cuda/on_cpu/multiprocessor.h"
#include "error.h"

namespace ferrum::cuda::on_cpu {

// Orders of threads that every test tries.
constexpr uint32_t kOrders = 5;

template <class... Parts>
void expect(bool holds, const Parts&... otherwise) {
  if (!holds) fail(otherwise...);
}

template <class Arguments>
void launch(const char* kernel, unsigned blocks, unsigned threads, const Arguments& arguments,
            size_t shared = 0, uint32_t order = 1) {
  run({kernel, {blocks, 1, 1}, threads, &arguments, sizeof arguments, shared, order});
}

template <class Arguments>
void expect_error(const std::string& part, const char* kernel, unsigned threads,
                  const Arguments& arguments, size_t shared = 0) {
  for (uint32_t order = 0; order < kOrders; ++order) {
    std::string error = "none";
    try {
      launch(kernel, 2, threads, arguments, shared, order);
    } catch (const Error& e) {
      error = e.what();
    }
    expect(error.find(part) != std::string::npos && error.find(kernel) != std::string::npos,
           "error of ", kernel, ": ", error, " -> ", part);
  }
}

// Each throws Error about the first thing that is wrong.
void test_conversions();  // self_test_values.cc
void test_byte_functions();
void test_shuffles();  // self_test_threads.cc
void test_votes();
void test_barriers();
void test_atomics();
void test_races_show();
void test_errors();    // self_test_errors.cc
void test_matrices();  // self_test_matrices.cc
void test_copies();

}  // namespace ferrum::cuda::on_cpu
