/* UTF-8 as names in snapshots are: as in RFC 3629, but for NUL and surrogates,
   which names may hold and GLib refuses. */

#include "snapshot.h"

#include <glib.h>

/* Bytes of what GLib has stopped at, if it may stand there; else 0. */
static size_t
let_through(const char *text, const char *end)
{
    const uint8_t *p = (const uint8_t *)text;
    if (p[0] == 0) {
        return 1;
    }
    return end - text >= 3 && p[0] == 0xed && (p[1] & 0xe0) == 0xa0
           && (p[2] & 0xc0) == 0x80 ? 3 : 0;
}

const char *
_PySnapshot_FindBadUTF8(const char *text, const char *end)
{
    while (!g_utf8_validate_len(text, (size_t)(end - text), &text)) {
        size_t n = let_through(text, end);
        if (n == 0) {
            return text;
        }
        text += n;
    }
    return NULL;
}
