/* Interned text, see tracer_text.c.  Locked.  UINT32_MAX: no memory. */

#ifndef Py_INTERNAL_TRACER_TEXT_H
#define Py_INTERNAL_TRACER_TEXT_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_tracer_index.h"

/* UTF-8 with surrogates passed through, and a NUL. */
struct tracer_string {
    const char *utf8;
    uint32_t length;              // bytes
    uint32_t hash;
};

struct tracer_texts {
    struct tracer_string *strings;      // grows, moves
    uint32_t nstrings;
    uint32_t capacity;
    struct tracer_index index;          // numbers are those of strings + 1
};
extern struct tracer_texts _PyTracer_texts;

extern int _PyTracer_TextInit(void);
extern void _PyTracer_TextClear(void);
#define TRACER_UNKNOWN "<unknown>"
extern uint32_t _PyTracer_InternText(PyObject *str);      // NULL: unknown
/* Its UTF-8, in place or until the next one is encoded; asks for no memory. */
extern const char *_PyTracer_EncodeText(PyObject *str, uint32_t *length);
extern uint32_t _PyTracer_InternLiteral(const char *text);
extern const char *_PyTracer_TextFault(void);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_TEXT_H */
