/* Triggers: calls that the allocator asks for when the traced memory has
   moved far enough or enough time has passed.  A task of Python code is built
   on one trigger, see Modules/_tracemalloc_tasks.c. */

#ifndef Py_INTERNAL_TRACER_TASKS_H
#define Py_INTERNAL_TRACER_TASKS_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include <stdint.h>               // int64_t

/* Embedded in its owner, zero-initialised.  Protected by the GIL of the main
   interpreter, and by a mutex where there is none. */
struct tracer_trigger {
    int64_t low, high;            // traced memory, bytes: due outside of it
    int64_t deadline;             // monotonic, ns: due after it
    int64_t threshold;            // bytes, 0: none
    int armed;                    // in the list, not yet due
    int due;                      // in the list, waits for its call
    int unbounded;                // armed in a call: low, high not yet set
    int wanted;                   // atomic: due, for a reason of another's
    struct tracer_trigger *next;
};

/* Set the function that is called, in the main thread and as a pending call,
   when a trigger is due.  It serves one trigger: BeginCall(), the call,
   EndCall(). */
extern void _PyTracer_SetTriggerCall(int (*call)(void *unused));

/* Arm the trigger, or arm it again: it will be due when the traced memory has
   moved by more than `threshold` bytes (0: never) from its present value, or
   `delay` ns (0: never) from now.  Return whether it was armed or due. */
extern int _PyTracer_ArmTrigger(struct tracer_trigger *trigger,
                                int64_t threshold, int64_t delay);

/* Make the trigger due if it is armed; it must be alive. No GIL needed.  -1:
   the pending calls are locked, or too many; try it again. */
extern int _PyTracer_WantTrigger(struct tracer_trigger *trigger);

/* Was it armed, or due? */
extern int _PyTracer_DisarmTrigger(struct tracer_trigger *trigger);

/* Begin the call of the trigger that has been due for longest, which disarms
   it; NULL if there is none. */
extern struct tracer_trigger *_PyTracer_BeginCall(void);

/* End the call.  If more triggers are due, ask for another pending call. */
extern void _PyTracer_EndCall(void);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_TASKS_H */
