/* The stand-ins of shared/tools/cuda_stub, named by STAND_INS, with launches that also log where scratch lies and take
   a while, as launches do whose kernels have work, and with memory that ends at SCRATCH_LIMIT bytes a piece. */
#define cuLaunchKernel plain_launch
#define cudaMalloc plain_malloc
#include STAND_INS
#undef cuLaunchKernel
#undef cudaMalloc

#ifdef LIB_cudart
#define OUT_OF_MEMORY 2 /* cudaErrorMemoryAllocation */
int cudaMalloc(void **p, size_t n) {
  const char *limit = getenv("SCRATCH_LIMIT");
  return limit && n > strtoull(limit, 0, 10) ? OUT_OF_MEMORY : plain_malloc(p, n);
}
#endif

#ifdef LIB_cuda
#include <unistd.h>
int cuMemcpyDtoDAsync_v2(unsigned long long to, unsigned long long from, size_t n, void *stream) {
  memmove((void *)to, (void *)from, n);
  return 0;
}
int cuLaunchKernel(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, void *stream, void **params, void **extra) {
  if (!strcmp(f, "align_and_round")) { /* AlignArguments: ids, four ints, counts, sorted, tile_expert */
    void **words = params[0];
    char text[80];
    snprintf(text, sizeof text, "scratch %p %p", stream, words[3]);
    stub_log(text, "", 0, 0);
    usleep(1000);
  }
  return plain_launch(f, gx, gy, gz, bx, by, bz, shared, stream, params, extra);
}
#endif
