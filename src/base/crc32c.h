/* CRC-32C (Castagnoli), in hardware where the processor has it. Thread: any. */
#pragma once

#include "base/base.h"

/* Continues `crc` (0 to start) over `size` bytes. */
uint32_t crc32c(uint32_t crc, const void *bytes, size_t size);

/* The same without the processor's instruction. */
uint32_t crc32c_software(uint32_t crc, const void *bytes, size_t size);
