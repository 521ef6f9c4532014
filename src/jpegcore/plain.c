/* The decoder for any CPU. */
#define DECODE decode_plain
#include "region.h"
