"""Native code: the operators and the front-end in C++ and CUDA, and the builder that compiles them."""
