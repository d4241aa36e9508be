# What our native projects have in common: include it before `project`, and call dtfsal_settings after it.

# Asked before `project`, which sets the compiler's own default: its oldest GPU alone.
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES AND NOT DEFINED ENV{CUDAARCHS})
  set(all_architectures ON)
endif()

macro(dtfsal_settings)
  if(NOT CMAKE_BUILD_TYPE)
    set(CMAKE_BUILD_TYPE Release)
  endif()
  set(CMAKE_CXX_STANDARD 17)
  set(CMAKE_CXX_STANDARD_REQUIRED ON)
  set(CMAKE_CXX_EXTENSIONS OFF)
  set(CMAKE_POSITION_INDEPENDENT_CODE ON)
  set(CMAKE_CXX_VISIBILITY_PRESET hidden)
  set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
  set(CMAKE_CUDA_STANDARD 17)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  set(CMAKE_CUDA_VISIBILITY_PRESET hidden)
  if(all_architectures)
    # What the toolkit still compiles for, from Turing on; the last as PTX too, for what comes after it.
    set(wanted 75-real 80-real 86-real 89-real 90-real)
    if(CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 12.8)
      list(APPEND wanted 100-real 120)
    else()
      list(TRANSFORM wanted REPLACE "90-real" "90")
    endif()
    set(CMAKE_CUDA_ARCHITECTURES ${wanted})
  endif()
endmacro()

# Link CUDA's runtime in, export what the map names, and make warnings errors, with these options of g++.
function(dtfsal_cuda_library name)
  target_link_libraries(${name} PRIVATE CUDA::cudart_static)
  target_link_options(${name} PRIVATE -Wl,--no-undefined
    -Wl,--version-script=${CMAKE_CURRENT_SOURCE_DIR}/exports.map)
  list(JOIN ARGN "," options_for_nvcc)
  target_compile_options(${name} PRIVATE
    $<$<COMPILE_LANGUAGE:CXX>:${ARGN} -Wpedantic>
    $<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings -Xcompiler=${options_for_nvcc}>)
endfunction()
