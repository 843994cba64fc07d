/* The C stack of the calling thread, see tracer_unwind.c.  Locked, where
   nothing else is said. */

#ifndef Py_INTERNAL_TRACER_UNWIND_H
#define Py_INTERNAL_TRACER_UNWIND_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include <dlfcn.h>                // DLFO_STRUCT_HAS_EH_DBASE
#include <stdint.h>

#if defined(__x86_64__) && defined(__GLIBC__)
#  define TRACER_UNWINDS 1
#else
#  define TRACER_UNWINDS 0
#endif

/* The library with an address, found without a lock of the loader: what glibc
   has since 2.35.  It is looked for when the program runs, so that it may be
   built with an older one, and run with one. */
#if TRACER_UNWINDS
#  ifndef DLFO_STRUCT_HAS_EH_DBASE
struct dl_find_object {
    unsigned long long dlfo_flags;
    void *dlfo_map_start, *dlfo_map_end;
    struct link_map *dlfo_link_map;
    void *dlfo_eh_frame;
    unsigned long long dlfo_reserved[7];
};
#  endif
/* 0, or -1: in no library.  NULL until _PyTracer_CanUnwind() was called. */
extern int (*_PyTracer_find_library)(void *, struct dl_find_object *);
#endif

/* Can C stacks be unwound with this C library?  Not locked. */
extern int _PyTracer_CanUnwind(void);

#define TRACER_MAX_C_FRAMES 100

/* Where the caller's registers are, for a return address: the frame ends at
   the CFA, which lies at `offset` from a register. */
enum tracer_base {
    TRACER_BASE_NONE,             // there is no rule
    TRACER_BASE_RSP,
    TRACER_BASE_RBP,
    TRACER_BASE_RBX,
    TRACER_BASE_SAVED,            // the CFA is stored at that offset from rbp
};

/* A register is saved at this offset from the CFA or, if that is stored, from
   rbp. */
#define TRACER_NOT_SAVED INT32_MAX
struct tracer_rule {
    enum tracer_base base;
    int32_t offset;
    int32_t rbp, rbx;
};

/* Find the rule of a return address.  Safe in handlers of signals, and without
   the lock. */
extern struct tracer_rule _PyTracer_FindRule(uintptr_t pc);

/* Number of the C stack: of the frames from the caller of the function whose
   CFA is `from` on, up to the innermost eval loop, but no more than n; 0: there
   are none, or there is no memory.  The state may be NULL. */
extern uint32_t _PyTracer_CStack(const void *from, PyThreadState *tstate,
                                 int n);
/* All places have other numbers, or none. */
extern void _PyTracer_ForgetRules(void);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_UNWIND_H */
