/* C stacks that were seen before, see tracer_trails.c.  Locked. */

#ifndef Py_INTERNAL_TRACER_TRAILS_H
#define Py_INTERNAL_TRACER_TRAILS_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include <stdint.h>

#define TRACER_TRAIL_WORDS 256
#define TRACER_NO_TRAIL UINT32_MAX

/* The words of the stack that an unwinding has read, in its order: where they
   lie, from the base on, and what they were.  A word that is an address in the
   stack counts from the base, too, and its offset has this bit. */
#define TRACER_TRAIL_ADDRESS (1u << 31)
struct tracer_word {
    uintptr_t value;
    uint32_t offset;
};

struct tracer_trail {
    uintptr_t base;
    int failed;                   // there are more, or one is too far away
    uint32_t nwords;
    struct tracer_word words[TRACER_TRAIL_WORDS];
};

/* The unwinding has read the word at an address. */
static inline void
_PyTracer_NoteWord(struct tracer_trail *trail, uintptr_t address,
                   uint32_t is_address)
{
    uintptr_t offset = address - trail->base;
    if (trail->nwords == TRACER_TRAIL_WORDS || offset >= TRACER_TRAIL_ADDRESS)
    {
        trail->failed = 1;
        return;
    }
    uintptr_t value = *(const uintptr_t *)address;
    trail->words[trail->nwords++] = (struct tracer_word){
        is_address ? value - trail->base : value,
        (uint32_t)offset | is_address};
}

/* Number of the C stack, if the words from the base on are those of a trail;
   else TRACER_NO_TRAIL.  `room`: bytes to the end of the stack. */
extern uint32_t _PyTracer_FollowTrail(uintptr_t base, uintptr_t room);
/* From now on it leads to that stack. */
extern void _PyTracer_KeepTrail(const struct tracer_trail *trail,
                                uint32_t stack);
extern void _PyTracer_ForgetTrails(void);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_TRAILS_H */
