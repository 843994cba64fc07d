/* Line tables of code objects. */

#ifndef Py_INTERNAL_TRACER_LINES_H
#define Py_INTERNAL_TRACER_LINES_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

/* -1: unknown. Columns are 0-based byte offsets. */
struct tracer_position {
    int line, end_line, column, end_column;
};

/* The decoder of one line table, between two entries; all zero at first. */
struct tracer_decoder {
    uint32_t next;                // offset of the next entry in the table
    int unit;                     // where that starts in the code
    int line;                     // running line
};

/* Position of an instruction, by its offset in code units. */
extern struct tracer_position _PyTracer_DecodeLine(PyCodeObject *code,
                                                   struct tracer_decoder *d,
                                                   int unit);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_LINES_H */
