/* CRC-32 with the polynomial of zlib, eight bytes at a time: each table looks
   one byte further ahead.  GLib has checksums, but no CRC. */

#include "snapshot.h"

#include <glib.h>

#define POLYNOMIAL 0xedb88320u

static uint32_t tables[8][256];

static void
make_tables(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++) {
            crc = (crc >> 1) ^ (crc & 1 ? POLYNOMIAL : 0);
        }
        tables[0][i] = crc;
    }
    for (int t = 1; t < 8; t++) {
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t crc = tables[t - 1][i];
            tables[t][i] = (crc >> 8) ^ tables[0][crc & 0xff];
        }
    }
}

uint32_t
_PySnapshot_CRC(uint32_t crc, const void *data, size_t size)
{
    const uint8_t *p = data;
    /* The module calls this once, before any other thread can use it. */
    if (tables[7][255] == 0) {
        make_tables();
    }
    crc = ~crc;
    for (; size >= 8; size -= 8, p += 8) {
        uint32_t word[2];
        memcpy(word, p, sizeof(word));
        uint32_t a = crc ^ GUINT32_FROM_LE(word[0]);
        uint32_t b = GUINT32_FROM_LE(word[1]);
        crc = tables[7][a & 0xff] ^ tables[6][a >> 8 & 0xff]
              ^ tables[5][a >> 16 & 0xff] ^ tables[4][a >> 24]
              ^ tables[3][b & 0xff] ^ tables[2][b >> 8 & 0xff]
              ^ tables[1][b >> 16 & 0xff] ^ tables[0][b >> 24];
    }
    for (; size > 0; size--, p++) {
        crc = (crc >> 8) ^ tables[0][(crc ^ *p) & 0xff];
    }
    return ~crc;
}
