# The ops on GPUs: kernels compiled ahead of time by nvcc and put into the library as they are.
# Without nvcc the library has none, and everything else works.
#
# FERRUM_CUDA=ON      fail where there is no nvcc; OFF: do without; AUTO: as the machine has it
# FERRUM_CUDA_ON_CPU  a library for tests, whose CPU kernels are the CUDA ones, emulated

set(FERRUM_CUDA AUTO CACHE STRING "Compile CUDA kernels: ON, OFF or AUTO")
set(FERRUM_CUDA_ARCHITECTURES "80;86;89;90;100;120" CACHE STRING "Compute capabilities, times ten")
option(FERRUM_CUDA_ON_CPU "Emulate the CUDA kernels in place of the CPU's, for tests" OFF)

# A unit is a file of kernels. Units and ops are found, so that a new one is one file and no more.
file(GLOB CUDA_KERNELS CONFIGURE_DEPENDS native/cuda/kernels/*.cu)
file(GLOB CUDA_OPS CONFIGURE_DEPENDS native/cuda/ops/*.cc)
target_sources(
  ferrum_ops
  PRIVATE ${CUDA_OPS}
          native/cuda/queue.cc
          native/ort/cuda/cuda_kernel.cc
          native/ort/cuda/paged_attention.cc
          native/ort/cuda/quant_matmul.cc
          native/ort/cuda/quant_moe.cc
          native/ort/cuda/rows.cc)

if(FERRUM_CUDA_ON_CPU)
  file(GLOB EMULATOR CONFIGURE_DEPENDS native/cuda/on_cpu/*.cc)
  target_sources(ferrum_ops PRIVATE ${EMULATOR} ${CUDA_KERNELS} native/no_cuda/images.cc
                                    native/ort/cuda/on_cpu.cc)
  # nvcc knows no aliasing by types. Loops marked for it need no unrolling here.
  set_source_files_properties(
    ${CUDA_KERNELS} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS
                               "-x;c++;-O1;-Wno-unknown-pragmas;-fno-strict-aliasing")
  set_source_files_properties(${EMULATOR} PROPERTIES COMPILE_OPTIONS
                                                     "-Wno-unknown-pragmas;-fno-strict-aliasing")
  return()
endif()

target_sources(
  ferrum_ops PRIVATE native/cuda/device_kernels.cc native/cuda/driver.cc native/cuda/gpu_queue.cc
                     native/cuda/images.cc native/ort/cuda/on_gpu.cc)

find_program(FERRUM_NVCC nvcc PATHS /usr/local/cuda/bin)
if(FERRUM_CUDA STREQUAL "ON" AND NOT FERRUM_NVCC)
  message(FATAL_ERROR "FERRUM_CUDA=ON, but no nvcc -> install the CUDA toolkit, or put nvcc in PATH")
endif()
if(FERRUM_NVCC AND NOT FERRUM_CUDA STREQUAL "OFF")
  execute_process(COMMAND ${FERRUM_NVCC} --version OUTPUT_VARIABLE nvcc_says ERROR_QUIET)
  string(REGEX MATCH "release ([0-9]+\\.[0-9]+)" nvcc_release "${nvcc_says}")
  set(nvcc_release "${CMAKE_MATCH_1}")
  if(nvcc_release VERSION_LESS 12.8)
    set(too_old "${FERRUM_NVCC} is of CUDA ${nvcc_release}")
    if(FERRUM_CUDA STREQUAL "ON")
      message(FATAL_ERROR "FERRUM_CUDA=ON, but ${too_old} -> CUDA 12.8 or newer")
    endif()
    message(STATUS "ferrum: ${too_old}, older than 12.8")
    set(FERRUM_CUDA OFF)
  endif()
endif()
if(FERRUM_CUDA STREQUAL "OFF" OR NOT FERRUM_NVCC)
  message(STATUS "ferrum: no CUDA kernels")
  target_sources(ferrum_ops PRIVATE native/no_cuda/images.cc)
  return()
endif()
foreach(architecture ${FERRUM_CUDA_ARCHITECTURES})
  if(NOT architecture MATCHES "^[0-9]+$" OR architecture LESS 80)
    message(FATAL_ERROR "FERRUM_CUDA_ARCHITECTURES has ${architecture} -> compute capabilities from "
                        "8.0 on, times ten: 80;90")
  endif()
endforeach()
list(SORT FERRUM_CUDA_ARCHITECTURES COMPARE NATURAL)
message(STATUS "ferrum: CUDA kernels for ${FERRUM_CUDA_ARCHITECTURES} by ${FERRUM_NVCC}")

# A unit becomes PTX of the oldest architecture, and machine code for all of its kind from that; the
# PTX serves GPUs that are newer than this list. From 90 on kernels may wait for one another on the
# GPU (device.h), which older PTX cannot say: machine code for those comes from PTX of 90. No line
# numbers, and internal names without what nvcc tells units apart by, which is hashes of paths and, of
# some units, the number of its process: the images are the same bytes wherever and whenever they are
# built.
list(GET FERRUM_CUDA_ARCHITECTURES 0 oldest)
set(CUDA_TO_PTX -std=c++17 -O3 -ptx)
set(WITHOUT_PLACES "s/[0-9]+_INTERNAL_([A-Za-z0-9_]+)(6ferrum4cuda)[0-9]+_GLOBAL__N__\\1/_INTERNAL_\\2_GLOBAL__N_/g")
file(GLOB CUDA_HEADERS CONFIGURE_DEPENDS native/cuda/*.h native/cuda/kernels/*.h native/quants.h
     native/cpu/decode_*-inl.h native/cpu/half.h native/cpu/codes.h)
set(images_folder ${CMAKE_BINARY_DIR}/cuda)
file(MAKE_DIRECTORY ${images_folder})
set(image_files)
set(assembly "")
set(declarations "")
set(rows "")

# Appends an image to what the library embeds.
macro(add_image unit architecture portable file)
  set(symbol ferrum_image_${unit}_${architecture}_${portable})
  string(APPEND assembly ".globl ${symbol}\n.hidden ${symbol}\n.balign 64\n${symbol}:\n"
         ".incbin \"${file}\"\n.byte 0\n")
  string(APPEND declarations
         "extern \"C\" __attribute__((visibility(\"hidden\"))) const unsigned char ${symbol}[];\n")
  string(APPEND rows "    {\"${unit}\", ${architecture}, ${portable}, ${symbol}},\n")
  list(APPEND image_files ${file})
endmacro()

# ${ptx} by compiling ${source} for that virtual architecture.
macro(add_ptx ptx architecture source)
  add_custom_command(
    OUTPUT ${ptx}
    COMMAND ${FERRUM_NVCC} ${CUDA_TO_PTX} -arch=compute_${architecture} -I native -I
            ${CMAKE_BINARY_DIR} -o ${ptx}.named ${source}
    COMMAND sed -E "${WITHOUT_PLACES}" ${ptx}.named > ${ptx}
    WORKING_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR}
    DEPENDS ${source} ${CUDA_HEADERS} ${IQ_TABLES}
    COMMENT "CUDA ${unit}: PTX of ${architecture}"
    VERBATIM)
endmacro()

foreach(source ${CUDA_KERNELS})
  get_filename_component(unit ${source} NAME_WE)
  set(ptx ${images_folder}/${unit}.ptx)
  set(ptx_90 ${ptx})
  add_ptx(${ptx} ${oldest} ${source})
  if(oldest LESS 90)
    set(ptx_90 ${images_folder}/${unit}.90.ptx)
    add_ptx(${ptx_90} 90 ${source})
  endif()
  add_image(${unit} ${oldest} true ${ptx})
  foreach(architecture ${FERRUM_CUDA_ARCHITECTURES})
    set(from ${ptx})
    if(NOT architecture LESS 90)
      set(from ${ptx_90})
    endif()
    set(cubin ${images_folder}/${unit}.sm_${architecture}.cubin)
    add_custom_command(
      OUTPUT ${cubin}
      COMMAND sh -c "\"$@\" >\"$0\" 2>&1 || { cat \"$0\"; exit 1; }" ${cubin}.log ${FERRUM_NVCC}
              -cubin -arch=sm_${architecture} -Xptxas -v -o ${cubin} ${from}
      DEPENDS ${from}
      COMMENT "CUDA ${unit}: sm_${architecture}"
      VERBATIM)
    add_image(${unit} ${architecture} false ${cubin})
  endforeach()
endforeach()

file(GENERATE OUTPUT ${images_folder}/images.S
     CONTENT ".section .rodata\n${assembly}.section .note.GNU-stack,\"\",%progbits\n")
file(GENERATE OUTPUT ${images_folder}/images.cc CONTENT
"#include \"cuda/images.h\"
${declarations}
namespace ferrum::cuda {
List<Image> images() {
  static const Image all[] = {
${rows}  };
  return {all, sizeof all / sizeof all[0]};
}
}  // namespace ferrum::cuda
")
enable_language(ASM)
set_source_files_properties(${images_folder}/images.S PROPERTIES OBJECT_DEPENDS "${image_files}")
# Printed when kernels were compiled, and kept.
set(kernel_table ${images_folder}/kernels.md)
add_custom_command(
  OUTPUT ${kernel_table}
  COMMAND ${Python_EXECUTABLE} native/cuda/kernel_table.py ${CMAKE_BINARY_DIR} > ${kernel_table}
  COMMAND ${CMAKE_COMMAND} -E cat ${kernel_table}
  WORKING_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR}
  DEPENDS ${image_files} native/cuda/kernel_table.py
  COMMENT "CUDA: registers by architecture, bytes of shared memory and of spills"
  VERBATIM)
add_custom_target(ferrum_cuda_images DEPENDS ${image_files} ${kernel_table})
add_dependencies(ferrum_ops ferrum_cuda_images)
target_sources(ferrum_ops PRIVATE ${images_folder}/images.S ${images_folder}/images.cc)
