// From what a problem says to the program for it: the same choice on the GPU and on the host.
#pragma once

#include <type_traits>

#include "problem.h"
#include "values.cuh"

namespace dtfsal {

// `f` of a number of the problem's type.
template <class F>
auto with_type(Problem const& problem, F f) {
    switch (problem.p.dtype) {
        case DTFSAL_FLOAT32: return f(float{});
        case DTFSAL_FLOAT16: return f(Fp16{});
        default: return f(Bf16{});
    }
}

// `f` of whether vectors are loaded and of the tile's width, both constants.
template <class T, class F>
auto with_tile(Problem const& problem, F f) {
    if (!problem.vectors) {
        return f(std::false_type{}, std::integral_constant<int, 64>{});
    }
    if (problem.tile_n == 64) {
        return f(std::true_type{}, std::integral_constant<int, 64>{});
    }
    if constexpr (sizeof(T) == 2) {
        if (problem.tile_n == 192) {
            return f(std::true_type{}, std::integral_constant<int, 192>{});
        }
        if (problem.tile_n == 256) {
            return f(std::true_type{}, std::integral_constant<int, 256>{});
        }
    }
    return f(std::true_type{}, std::integral_constant<int, 128>{});
}

}  // namespace dtfsal
