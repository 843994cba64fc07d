/* The C stack of the calling thread, unwound by rules that are remembered.

   A rule is made of .eh_frame once for each return address, see
   tracer_unwind_rules.c, and kept with the place of the address in a table
   that forgets on collision.  From then on a frame costs some loads.  A rule
   is wrong once its library is unloaded and another one is at its addresses.
   So the table is emptied when the program has seen that a library was
   unloaded, see Programs/tracer_program.c.

   The stack ends below the innermost eval loop, which runs Python frames.

   Nothing is read outside of the stack: it goes from the stack pointer to the
   end of the stack that the thread was started with, each frame ends above the
   one before, and what it saved lies in between.  On any other stack, such as
   that of a handler of signals or of a coroutine in C, there are no C frames.
   Neither malloc() nor a lock of the loader is used.

   All of this only if it is not known where it leads, see tracer_trails.c. */

#include "Python.h"
#include "pycore_tracer_compat.h"
#include "pycore_tracer_index.h"  // TRACER_GOLDEN_64
#include "pycore_tracer_lock.h"
#include "pycore_tracer_native_stacks.h"
#include "pycore_tracer_program.h"
#include "pycore_tracer_trails.h"
#include "pycore_tracer_unwind.h"

#if TRACER_UNWINDS

#include <fcntl.h>                // O_RDONLY
#include <pthread.h>              // pthread_self()
#include <sys/syscall.h>          // SYS_openat
#include <unistd.h>               // syscall()

#define CACHE_BITS 13
#define MAX_FRAMES 500            // unwound, with those that are not recorded
#define MAX_LOOKS 32              // of a thread, at stacks of others
#define WORD sizeof(uintptr_t)

/* Trails are made with the frame of this function, which must be the same
   wherever it is called. */
#ifdef __clang__
#  define ONE_COPY __attribute__((noinline))
#else
#  define ONE_COPY __attribute__((noinline, noclone))
#endif

/* --- The bounds of the stack */

struct bounds {
    uintptr_t low, high;
};

static _Py_thread_local struct {
    struct bounds own;
    struct bounds other;          // that was looked up last
    int looks;
} stack_bounds __attribute__((tls_model("initial-exec")));

extern void *__libc_stack_end;    // of the main thread: the loader's

static int
is_in(uintptr_t address, const struct bounds *bounds)
{
    return address - bounds->low < bounds->high - bounds->low;
}

/* Reading what the kernel says: lines that begin with LOW-HIGH. */
struct maps {
    struct bounds line;
    int field;                    // 0: low, 1: high, 2: the rest
};

/* 1: the line that has ended is that of the address. */
static int
read_char(struct maps *maps, char c, uintptr_t address)
{
    if (c == '\n') {
        int found = is_in(address, &maps->line);
        if (!found) {
            *maps = (struct maps){{0, 0}, 0};
        }
        return found;
    }
    if (maps->field < 2) {
        uintptr_t *number = maps->field == 0 ? &maps->line.low
                                             : &maps->line.high;
        if (c == '-' || c == ' ') {
            maps->field++;
        }
        else {
            *number = *number << 4 | (uintptr_t)(c <= '9' ? c - '0'
                                                          : c - 'a' + 10);
        }
    }
    return 0;
}

/* The mapping of an address.  Not by functions at which a thread may be
   cancelled, as the lock is held. */
static struct bounds
find_mapping(uintptr_t address)
{
    struct maps maps = {{0, 0}, 0};
    char buffer[1024];
    long fd = syscall(SYS_openat, AT_FDCWD, "/proc/self/maps",
                      O_RDONLY | O_CLOEXEC);
    int found = 0;
    while (fd >= 0 && !found) {
        long n = syscall(SYS_read, fd, buffer, sizeof(buffer));
        if (n <= 0) {
            break;
        }
        for (long i = 0; i < n && !found; i++) {
            found = read_char(&maps, buffer[i], address);
        }
    }
    if (fd >= 0) {
        (void)syscall(SYS_close, fd);
    }
    return found ? maps.line : (struct bounds){0, 0};
}

/* The end of the thread's own stack, 0: this is another one.  glibc keeps what
   it knows of a thread, at the address that pthread_self() returns, at the
   high end of the thread's stack. */
static uintptr_t
end_of_stack(uintptr_t sp)
{
    if (is_in(sp, &stack_bounds.own)) {
        return stack_bounds.own.high;
    }
    if (is_in(sp, &stack_bounds.other) || stack_bounds.looks == MAX_LOOKS) {
        return 0;
    }
    struct bounds mapping = find_mapping(sp);
    uintptr_t self = (uintptr_t)pthread_self();
    if (is_in(self, &mapping) && self > sp) {
        mapping.high = self;
    }
    else if (!is_in((uintptr_t)__libc_stack_end, &mapping)) {
        stack_bounds.other = mapping;
        stack_bounds.looks++;
        return 0;
    }
    stack_bounds.own = mapping;
    return mapping.high;
}

/* --- Rules */

/* Is it a place in the eval loop, which runs Python frames? */
enum loop {
    LOOP_UNKNOWN,
    LOOP_NO,
    LOOP_YES
};

static struct known {
    uintptr_t pc;                 // 0: none
    uint32_t place : 24;          // 0: it is not shown
    uint32_t loop : 8;            // enum loop
    struct tracer_rule rule;
} cache[1 << CACHE_BITS];
static int any_known;             // else no page of the table was touched
static unsigned int unloads_seen;

void
_PyTracer_ForgetRules(void)
{
    _PyTracer_ASSERT_LOCKED();
    if (any_known) {
        memset(cache, 0, sizeof(cache));
        any_known = 0;
    }
    _PyTracer_ForgetTrails();
}

/* Is it in malloc() or one of its relatives? */
static int
is_in_family(uintptr_t pc)
{
    const char *begin = _PyTracer_program.begin;
    return pc - (uintptr_t)begin - 1
           < (uintptr_t)(_PyTracer_program.end - begin);
}

static Py_NO_INLINE void
learn(struct known *known, uintptr_t pc)
{
    any_known = 1;
    uint32_t place = is_in_family(pc) ? 0 : _PyTracer_NativePlace(pc);
    *known = (struct known){pc, place, LOOP_UNKNOWN, _PyTracer_FindRule(pc)};
}

static inline struct known *
find(uintptr_t pc)
{
    struct known *known = &cache[(pc * TRACER_GOLDEN_64)
                                 >> (64 - CACHE_BITS)];
    if (known->pc != pc) {
        learn(known, pc);
    }
    return known;
}

/* --- Frames */

struct frame {
    uintptr_t pc;                 // a return address
    uintptr_t at[TRACER_BASE_SAVED];      // by enum tracer_base
    uintptr_t source[TRACER_BASE_SAVED];  // where `at` was read: an address
    uintptr_t end;                // of the stack
};

/* Where the frame ends, 0: nobody knows.  The outermost frame may begin at the
   end of the stack, so that nothing is left. */
static inline uintptr_t
cfa_of(const struct frame *frame, const struct tracer_rule *rule)
{
    uintptr_t sp = frame->at[TRACER_BASE_RSP];
    uintptr_t offset = (uintptr_t)(intptr_t)rule->offset;
    uintptr_t cfa = 0;
    if (rule->base < TRACER_BASE_SAVED) {
        cfa = frame->at[rule->base] + offset;
    }
    else {
        uintptr_t saved = frame->at[TRACER_BASE_RBP] + offset;
        if (saved - sp < frame->end - sp && saved % WORD == 0) {
            cfa = *(const uintptr_t *)saved;
        }
    }
    return cfa - sp - 1 < frame->end - sp && cfa % WORD == 0 ? cfa : 0;
}

/* What the caller has in a register.  It is saved between the stack pointer
   and the CFA, or it is of no use. */
static inline void
restore_register(struct frame *frame, enum tracer_base number, int32_t saved,
                 uintptr_t cfa, uintptr_t base)
{
    if (saved != TRACER_NOT_SAVED) {
        uintptr_t sp = frame->at[TRACER_BASE_RSP];
        uintptr_t address = base + (uintptr_t)(intptr_t)saved;
        int is_here = address - sp < cfa - sp;
        frame->at[number] = is_here ? *(const uintptr_t *)address : 0;
        frame->source[number] = is_here ? address : 0;
    }
}

static inline void
leave_frame(struct frame *frame, const struct tracer_rule *rule,
            uintptr_t cfa)
{
    uintptr_t base = rule->base == TRACER_BASE_SAVED
                     ? frame->at[TRACER_BASE_RBP] : cfa;
    restore_register(frame, TRACER_BASE_RBP, rule->rbp, cfa, base);
    restore_register(frame, TRACER_BASE_RBX, rule->rbx, cfa, base);
    frame->pc = *(const uintptr_t *)(cfa - WORD);
    frame->at[TRACER_BASE_RSP] = cfa;
}

/* The words that have told where the frame ends, and who has called. */
static void
note_frame(struct tracer_trail *trail, const struct frame *frame,
           const struct tracer_rule *rule, uintptr_t cfa)
{
    int is_saved = rule->base == TRACER_BASE_SAVED;
    if (rule->base != TRACER_BASE_RSP) {
        enum tracer_base base = is_saved ? TRACER_BASE_RBP : rule->base;
        _PyTracer_NoteWord(trail, frame->source[base], TRACER_TRAIL_ADDRESS);
    }
    if (is_saved) {
        uintptr_t saved = frame->at[TRACER_BASE_RBP]
                          + (uintptr_t)(intptr_t)rule->offset;
        _PyTracer_NoteWord(trail, saved, TRACER_TRAIL_ADDRESS);
    }
    _PyTracer_NoteWord(trail, cfa - WORD, 0);
}

#define READ_REGISTERS(FRAME)                                           \
    __asm__ volatile("leaq (%%rip), %%rax\n\t"                          \
                     "movq %%rax, %0\n\t"                               \
                     "movq %%rsp, %1\n\t"                               \
                     "movq %%rbp, %2\n\t"                               \
                     "movq %%rbx, %3"                                   \
                     : "=m"((FRAME).pc),                                \
                       "=m"((FRAME).at[TRACER_BASE_RSP]),               \
                       "=m"((FRAME).at[TRACER_BASE_RBP]),               \
                       "=m"((FRAME).at[TRACER_BASE_RBX])                \
                     : : "rax")

/* The eval loop has a frame of its own below the Python frames that it runs,
   which lies in its C frame.  Finding that may take a walk, so what is learned
   of a return address is kept.  Is this frame one of an eval loop? */
static Py_NO_INLINE int
learn_loop(struct known *known, const struct frame *frame, uintptr_t cfa,
           PyThreadState *tstate)
{
    uintptr_t entry = tstate == NULL
                      ? 0 : (uintptr_t)_PyTracer_EntryFrame(tstate);
    uintptr_t sp = frame->at[TRACER_BASE_RSP];
    if (cfa == 0 || entry < sp || entry >= frame->end) {
        return 0;                 // there is none up there
    }
    known->loop = entry < cfa ? LOOP_YES : LOOP_NO;
    if (known->loop == LOOP_YES) {
        _PyTracer_ForgetTrails(); // a thread without a state may have left one
    }                             //   that goes on
    return known->loop == LOOP_YES;
}

/* What the bounds of the stack have ended is no trail, as it may lie elsewhere
   the next time. */
static uint32_t
unwind_frames(const struct frame *start, uintptr_t from,
              PyThreadState *tstate, int n)
{
    static struct tracer_trail trail;
    uint32_t places[TRACER_MAX_C_FRAMES];
    struct frame frame = *start;
    frame.at[TRACER_BASE_NONE] = frame.source[TRACER_BASE_NONE] = 0;
    frame.source[TRACER_BASE_RBP] = (uintptr_t)&start->at[TRACER_BASE_RBP];
    frame.source[TRACER_BASE_RBX] = (uintptr_t)&start->at[TRACER_BASE_RBX];
    trail.base = (uintptr_t)start;
    trail.nwords = 0;
    trail.failed = 0;
    int found = 0;
    for (int i = 0; i < MAX_FRAMES && frame.pc != 0; i++) {
        struct known *known = find(frame.pc);
        const struct tracer_rule *rule = &known->rule;
        uintptr_t cfa = cfa_of(&frame, rule);
        if (known->loop == LOOP_YES
            || (known->loop == LOOP_UNKNOWN
                && learn_loop(known, &frame, cfa, tstate)))
        {
            break;
        }
        if (frame.at[TRACER_BASE_RSP] >= from && known->place != 0) {
            places[found++] = known->place;
        }
        if (cfa == 0 || found == n) {
            trail.failed |= found < n && rule->base != TRACER_BASE_NONE;
            break;
        }
        note_frame(&trail, &frame, rule, cfa);
        leave_frame(&frame, rule, cfa);
    }
    uint32_t stack = _PyTracer_NativeStack(places, found);
    if (!trail.failed && (stack != 0 || found == 0)) {
        _PyTracer_KeepTrail(&trail, stack);
    }
    return stack;
}

static Py_NO_INLINE uint32_t
unwind_anew(struct frame *frame, const void *from, PyThreadState *tstate,
            int n)
{
    int saved_errno = errno;
    uint32_t stack = 0;
    frame->end = end_of_stack((uintptr_t)frame);
    if (frame->end != 0) {
        stack = unwind_frames(frame, (uintptr_t)from, tstate, n);
    }
    errno = saved_errno;
    return stack;
}

/* It begins with its own frame, to know the registers of its callers.  Their
   copies are in this frame, so they are words of the stack, too. */
ONE_COPY uint32_t
_PyTracer_CStack(const void *from, PyThreadState *tstate, int n)
{
    _PyTracer_ASSERT_LOCKED();
    struct frame frame;
    READ_REGISTERS(frame);
    uintptr_t base = (uintptr_t)&frame;
    unsigned int unloads =
        _Py_atomic_load_uint_relaxed(_PyTracer_program.unloads);
    if (unloads != unloads_seen) {
        _PyTracer_ForgetRules();
        unloads_seen = unloads;
    }
    uint32_t stack = TRACER_NO_TRAIL;
    if (is_in(base, &stack_bounds.own)) {
        stack = _PyTracer_FollowTrail(base, stack_bounds.own.high - base);
    }
    if (stack == TRACER_NO_TRAIL) {
        return unwind_anew(&frame, from, tstate, n);
    }
    assert(stack == unwind_anew(&frame, from, tstate, n));
    return stack;
}

#else

void
_PyTracer_ForgetRules(void)
{
}

uint32_t
_PyTracer_CStack(const void *Py_UNUSED(from), PyThreadState *Py_UNUSED(tstate),
                 int Py_UNUSED(n))
{
    return 0;
}

#endif
