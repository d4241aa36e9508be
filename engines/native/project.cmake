# What our native projects have in common: include it after `project`, which names C++ and not CUDA.
set(native ${CMAKE_CURRENT_LIST_DIR})
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
set(CMAKE_CXX_STANDARD 17)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)

set(CMAKE_SHARED_LIBRARY_PREFIX lib)  # on Windows too: the name by which it is looked for

# What a shared library of ours asks of the linker: nothing is left undefined, and only what exports.map names is exported.
# The maps and these options are ELF's. Elsewhere each function's visibility says alone what is exported.
function(dtfsal_shared name)
  if(UNIX AND NOT APPLE)
    set_target_properties(${name} PROPERTIES LINK_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/exports.map)
    target_link_options(${name} PRIVATE -Wl,--version-script=${CMAKE_CURRENT_SOURCE_DIR}/exports.map)
    if(NOT DTFSAL_SANITIZE)
      target_link_options(${name} PRIVATE -Wl,--no-undefined)
    endif()
  endif()
endfunction()

# Put the C++ library inside: nothing but the C library is asked of the machine. macOS always has its own.
function(dtfsal_self_contained name)
  if(NOT APPLE)
    target_link_options(${name} PRIVATE -static-libstdc++ -static-libgcc)
  endif()
endfunction()

# nvcc, for what the toolkit still compiles for, from Turing on; the last as PTX too, for what comes after it.
macro(dtfsal_enable_cuda)
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES AND NOT DEFINED ENV{CUDAARCHS})
    set(all_architectures ON)  # asked before nvcc sets its own default: its oldest GPU alone
  endif()
  enable_language(CUDA)
  find_package(CUDAToolkit REQUIRED)
  set(CMAKE_CUDA_STANDARD 17)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  set(CMAKE_CUDA_VISIBILITY_PRESET hidden)
  if(all_architectures)
    set(CMAKE_CUDA_ARCHITECTURES 75-real 80-real 86-real 89-real 90-real)
    if(CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 12.8)
      list(APPEND CMAKE_CUDA_ARCHITECTURES 100-real)
      if(CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 13.0)
        list(APPEND CMAKE_CUDA_ARCHITECTURES 110-real)  # before 13.0 it had another number
      endif()
      list(APPEND CMAKE_CUDA_ARCHITECTURES 120)
    else()
      list(TRANSFORM CMAKE_CUDA_ARCHITECTURES REPLACE "90-real" "90")
    endif()
  endif()
endmacro()

# libNAME.so, whose kernels are for the GPU, or with -DDTFSAL_HOST_ONLY=ON libNAME_host.so, which tests use: the same
# program on the CPU. HEADER is its C interface; DEVICE, HOST and BOTH are sources; OPTIONS are g++'s.
macro(dtfsal_cuda_library name)
  cmake_parse_arguments(library "" HEADER "DEVICE;HOST;BOTH;OPTIONS" ${ARGN})
  option(DTFSAL_HOST_ONLY "Build only the CPU library for tests; needs no CUDA" OFF)
  set(host_options -Wall -Wextra -Werror ${library_OPTIONS})
  include_directories(${native})
  if(DTFSAL_HOST_ONLY)
    add_library(${name}_host SHARED ${library_HOST} ${library_BOTH})
    target_compile_options(${name}_host PRIVATE ${host_options} -Wpedantic -Wconversion)
  else()
    dtfsal_enable_cuda()
    add_library(${name} SHARED ${library_DEVICE} ${library_BOTH})
    dtfsal_shared(${name})
    target_link_libraries(${name} PRIVATE CUDA::cudart_static)
    list(JOIN host_options "," options_for_nvcc)
    target_compile_options(${name} PRIVATE
      $<$<COMPILE_LANGUAGE:CXX>:${host_options} -Wpedantic>
      $<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings -Xcompiler=${options_for_nvcc}>)
    install(TARGETS ${name} LIBRARY DESTINATION lib)
    install(FILES ${library_HEADER} ${native}/kernels.h DESTINATION include/dtfsal)
  endif()
endmacro()
