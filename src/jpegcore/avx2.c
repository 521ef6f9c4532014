/* The decoder for x86 CPUs with AVX2 and BMI: the same code, other instructions. */
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,bmi,bmi2"))), apply_to = function)
#else
#pragma GCC target("avx2,bmi,bmi2")
#endif
#define DECODE decode_avx2
#include "region.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
typedef int nothing; /* no translation unit is empty */
#endif
