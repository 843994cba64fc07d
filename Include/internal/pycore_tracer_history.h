/* Memory over time, see tracer_history.c. */

#ifndef Py_INTERNAL_TRACER_HISTORY_H
#define Py_INTERNAL_TRACER_HISTORY_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_tracer_snapshot.h"       // struct snapshot_note

#include <stdint.h>

/* Forget all notes, and start a thread that notes the memory of the process
   once in so many ns; 0, or an errno.  GIL held, not locked. */
extern int _PyTracer_StartHistory(int64_t interval);
/* End the thread; the notes stay.  GIL held, not locked. */
extern void _PyTracer_StopHistory(void);
/* And forget them. */
extern void _PyTracer_HistoryFini(void);
/* The child of a fork has no thread, and no notes.  Locked. */
extern void _PyTracer_ForgetHistory(void);

/* What a snapshot shows: time is monotonic, ns. */
struct tracer_moment_taken {
    int64_t time;
    int64_t traced, peak, blocks;
};
/* Note that a snapshot was taken, if there is a thread.  Not locked. */
extern void _PyTracer_NoteSnapshot(const struct tracer_moment_taken *taken);
/* Note the present, if there is a thread.  Not locked. */
extern void _PyTracer_NotePresent(void);
/* All notes, from malloc(), with the time in microseconds since 1970; NULL:
   there are none, or there is no memory.  Not locked. */
extern struct snapshot_note *_PyTracer_CopyHistory(uint32_t *n);

/* ns between two notes; 0: nobody asks for them.  In the child of a fork, that
   of the parent.  GIL held, not locked. */
extern int64_t _PyTracer_HistoryInterval(void);

/* Resident bytes of the process; 0: not known.  No lock needed. */
extern int64_t _PyTracer_ReadRss(void);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_HISTORY_H */
