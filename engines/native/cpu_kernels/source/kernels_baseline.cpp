#include "isa.inl"
