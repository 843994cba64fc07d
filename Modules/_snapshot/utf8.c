/* UTF-8 as names in snapshots are: as in RFC 3629, but for NUL and surrogates,
   which names may hold. */

#include "snapshot.h"

/* End of the character at p, NULL if it is none. */
static const uint8_t *
skip_character(const uint8_t *p, const uint8_t *end)
{
    uint8_t c = p[0];
    if (c < 0x80) {
        return p + 1;
    }
    int n = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
    if (c < 0xc2 || c > 0xf4 || end - p < n) {
        return NULL;
    }
    for (int i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return NULL;
        }
    }
    /* Longer than needed, or beyond U+10FFFF. */
    if ((c == 0xe0 && p[1] < 0xa0) || (c == 0xf0 && p[1] < 0x90)
        || (c == 0xf4 && p[1] > 0x8f))
    {
        return NULL;
    }
    return p + n;
}

const uint8_t *
_PySnapshot_FindBadUTF8(const uint8_t *p, const uint8_t *end)
{
    while (p < end) {
        const uint8_t *next = skip_character(p, end);
        if (next == NULL) {
            return p;
        }
        p = next;
    }
    return NULL;
}
