/* C stacks that were seen before.

   A library allocates in the same few ways again and again.  The words of the
   stack that an unwinding reads, above all return addresses, are its trail.
   Which word it reads next depends only on those before: while they are what
   they were, so is the C stack.  So the words are compared, and nothing is
   unwound.

   Trails with the same beginning share it.  A step is a word to read and what
   it was in the first trail that came there; that trail goes on at the next
   step of the array.  Where the word was another one in a later trail, a
   branch leads from there to the rest of that trail: a hash table has these by
   step and word.  The last step of a trail has the number of the C stack.

   A trail counts from a base, so it serves at any depth of the stack.  All of
   them are forgotten when there is no room for another one.  Locked. */

#include "Python.h"
#include "pycore_tracer_index.h"  // TRACER_GOLDEN_64
#include "pycore_tracer_lock.h"
#include "pycore_tracer_trails.h"

#define MAX_STEPS (1u << 14)
#define BRANCH_BITS 13
#define MAX_BRANCHES (3u << (BRANCH_BITS - 2))
#define LAST UINT32_MAX           // offset of a last step

static struct step {
    uintptr_t word;
    uint32_t offset;              // as in a trail, or LAST
    uint32_t stack;               // of a last step
} steps[MAX_STEPS];

static struct branch {
    uintptr_t word;
    uint32_t from, to;            // steps; to 0: no branch
} branches[1u << BRANCH_BITS];

static uint32_t nsteps, nbranches;

void
_PyTracer_ForgetTrails(void)
{
    _PyTracer_ASSERT_LOCKED();
    if (nbranches > 0) {
        memset(branches, 0, sizeof(branches));
    }
    nsteps = nbranches = 0;
}

/* The branch, or where it would be. */
static inline struct branch *
find_branch(uint32_t from, uintptr_t word)
{
    uint64_t hash = (word ^ (uint64_t)from << 32) * TRACER_GOLDEN_64;
    uint32_t i = (uint32_t)(hash >> (64 - BRANCH_BITS));
    for (;; i = (i + 1) % Py_ARRAY_LENGTH(branches)) {
        struct branch *branch = &branches[i];
        if (branch->to == 0 || (branch->word == word && branch->from == from))
        {
            return branch;
        }
    }
}

/* 0: no trail goes on like that. */
static inline uint32_t
next_step(uint32_t from, uintptr_t word)
{
    return steps[from].word == word ? from + 1 : find_branch(from, word)->to;
}

uint32_t
_PyTracer_FollowTrail(uintptr_t base, uintptr_t room)
{
    _PyTracer_ASSERT_LOCKED();
    room = Py_MIN(room, TRACER_TRAIL_ADDRESS);
    if (nsteps == 0) {
        return TRACER_NO_TRAIL;
    }
    uint32_t i = 0;
    do {
        const struct step *step = &steps[i];
        uintptr_t offset = step->offset;
        uintptr_t origin = 0;
        if (offset >= room) {
            if (offset == LAST) {
                return step->stack;
            }
            offset &= ~TRACER_TRAIL_ADDRESS;
            if (offset >= room) {
                return TRACER_NO_TRAIL;
            }
            origin = base;
        }
        i = next_step(i, *(const uintptr_t *)(base + offset) - origin);
    } while (i != 0);
    return TRACER_NO_TRAIL;
}

/* The steps from word i on, and the last one. */
static void
add_steps(const struct tracer_trail *trail, uint32_t i, uint32_t stack)
{
    for (; i < trail->nwords; i++) {
        const struct tracer_word *word = &trail->words[i];
        steps[nsteps++] = (struct step){word->value, word->offset, 0};
    }
    steps[nsteps++] = (struct step){0, LAST, stack};
}

void
_PyTracer_KeepTrail(const struct tracer_trail *trail, uint32_t stack)
{
    _PyTracer_ASSERT_LOCKED();
    assert(!trail->failed && trail->nwords > 0);
    if (nsteps + trail->nwords + 1 > MAX_STEPS || nbranches == MAX_BRANCHES) {
        _PyTracer_ForgetTrails();
    }
    if (nsteps == 0) {
        add_steps(trail, 0, stack);
        return;
    }
    uint32_t at = 0;
    for (uint32_t i = 0; i < trail->nwords; i++) {
        const struct tracer_word *word = &trail->words[i];
        assert(steps[at].offset == word->offset);
        uint32_t next = next_step(at, word->value);
        if (next == 0) {
            *find_branch(at, word->value) =
                (struct branch){word->value, at, nsteps};
            nbranches++;
            add_steps(trail, i + 1, stack);
            return;
        }
        at = next;
    }
    assert(steps[at].offset == LAST && steps[at].stack == stack);
}
