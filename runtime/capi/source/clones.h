// Functions that are compiled for several processors where the compiler can; the loader takes what the machine has.
#pragma once

#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && !defined(__SANITIZE_THREAD__) && \
    !defined(__SANITIZE_ADDRESS__)
#define DTFSAL_CLONES __attribute__((target_clones("avx2", "sse4.1", "default")))
#else
#define DTFSAL_CLONES
#endif
