/* Further blocks that objects own: the keys of a dictionary, the items of a
   list.  They are recognised through their owners.

   While a snapshot copies the blocks, it looks at each owner anyway, and notes
   here where its buffers are; the buffers may be copied later.  When
   everything is copied and other threads run again, the buffers get their
   class. */

#include "Python.h"

#include <stdbool.h>              // bool, for pycore_obmalloc.h
#include <stdlib.h>

#include "pycore_obmalloc.h"      // POOL_BITS
#include "pycore_tracer_buffers.h"
#include "pycore_tracer_compat.h"
#include "pycore_tracer_index.h"
#include "pycore_tracer_snapshot.h"

#define INITIAL_NOTES 4096
#define CLASS_MASK ((uintptr_t)7)     // in the address of a buffer
static_assert(TRACER_NCLASSES <= CLASS_MASK + 1, "a note holds a class");
#define GROUP 8                       // notes that have one, about

static void
note(struct tracer_buffers *buffers, const void *p, enum tracer_class class_)
{
    if (p == NULL || ((uintptr_t)p & CLASS_MASK) != 0 || buffers->failed) {
        return;
    }
    if (buffers->n == buffers->size) {
        buffers->notes = _PyTracer_Room(buffers->rooms, TRACER_ROOM_NOTES,
                                        Py_MAX(buffers->n + 1, INITIAL_NOTES),
                                        sizeof(uintptr_t));
        if (buffers->notes == NULL) {
            buffers->failed = 1;
            return;
        }
        buffers->size = buffers->rooms->list[TRACER_ROOM_NOTES].size
                        / sizeof(uintptr_t);
    }
    buffers->notes[buffers->n++] = (uintptr_t)p | (uintptr_t)class_;
}

/* Neighbours often share their keys: empty dictionaries, or instances of one
   class. */
static void
note_dict(struct tracer_buffers *buffers, const PyObject *dict)
{
    const void *keys = _PyTracer_DictKeys(dict);
    if (keys != buffers->last_keys) {
        note(buffers, keys, TRACER_CLASS_DICT_KEYS);
        buffers->last_keys = keys;
    }
    note(buffers, _PyTracer_DictValues(dict), TRACER_CLASS_DICT_VALUES);
}

/* A block that only looks like such an object may hold arbitrary addresses:
   they are not followed. */
void
_PyTracer_NoteBuffers(struct tracer_buffers *buffers,
                      enum tracer_owner owner, PyObject *op)
{
    switch (owner) {
    case TRACER_OWNS_AS_DICT:
        note_dict(buffers, op);
        break;
    case TRACER_OWNS_AS_TYPE:
        note(buffers, _PyTracer_CachedKeys(op), TRACER_CLASS_DICT_KEYS);
        break;
    case TRACER_OWNS_AS_LIST:
        note(buffers, _PyTracer_ListItems(op), TRACER_CLASS_LIST_ITEMS);
        break;
    case TRACER_OWNS_AS_SET:
        note(buffers, _PyTracer_SetTable(op), TRACER_CLASS_SET_TABLE);
        break;
    case TRACER_OWNS_AS_BYTEARRAY:
        note(buffers, _PyTracer_BytearrayBuffer(op),
             TRACER_CLASS_BYTEARRAY_BUFFER);
        break;
    case TRACER_OWNS_NOTHING:
        break;
    }
}

/* --- Where a buffer is in the snapshot */

struct finder {
    struct tracer_snapshot *s;
    uint32_t bytearray_class;     // that the buffer of a bytearray may have
    uint32_t *pools;              // run + 1 by address; 0: empty
    uint32_t mask;
};

/* Slot of the run of the pool that holds an address. */
static uint32_t *
find_run(const struct finder *f, uintptr_t address)
{
    assert((f->mask & (f->mask + 1)) == 0);
    uintptr_t pool = address >> POOL_BITS;
    uint32_t i = _PyTracer_Hash(pool);
    for (;; i++) {
        uint32_t *slot = &f->pools[i & f->mask];
        if (*slot == 0
            || f->s->runs[*slot - 1].address >> POOL_BITS == pool)
        {
            return slot;
        }
    }
}

static int
index_runs(struct finder *f)
{
    uint64_t size = 16;
    while (size < (uint64_t)f->s->nruns * 2) {
        size *= 2;
    }
    f->pools = calloc(size, sizeof(*f->pools));
    if (f->pools == NULL) {
        return -1;
    }
    f->mask = (uint32_t)(size - 1);
    for (uint32_t i = 0; i < f->s->nruns; i++) {
        *find_run(f, f->s->runs[i].address) = i + 1;
    }
    return 0;
}

/* The record of a buffer at an address in the pool of a run, or NULL.  If the
   pool holds nothing but buffers, it is the first one looked at. */
static struct snapshot_packed *
find_small(const struct finder *f, const struct snapshot_run *run,
           uintptr_t address)
{
    uint32_t offset = (uint32_t)(address - run->address);
    uint32_t number = offset / run->block_size;
    if (number * run->block_size != offset) {
        return NULL;
    }
    struct snapshot_packed *records = f->s->packed + run->first;
    uint32_t low = 0;
    uint32_t high = (uint32_t)(run[1].first - run->first);
    uint32_t middle = number < high ? number : high - 1;
    while (low < high) {
        uint32_t found = SNAPSHOT_PACKED_NUMBER(records[middle].place);
        if (found == number) {
            return &records[middle];
        }
        if (found < number) {
            low = middle + 1;
        }
        else {
            high = middle;
        }
        middle = low + (high - low) / 2;
    }
    return NULL;
}

/* May a note change the class of a block that has this class so far? */
static int
may_be_buffer(const struct finder *f, uint32_t class_, uint32_t noted)
{
    return class_ == TRACER_CLASS_MEMORY
           || (noted == TRACER_CLASS_BYTEARRAY_BUFFER
               && class_ == f->bytearray_class);
}

static void
mark_small(const struct finder *f, const struct snapshot_run *run,
           uintptr_t address, uint32_t class_)
{
    struct snapshot_packed *packed = find_small(f, run, address);
    if (packed != NULL
        && may_be_buffer(f, SNAPSHOT_PACKED_CLASS(packed->place), class_))
    {
        packed->place = (packed->place & ~SNAPSHOT_PACKED_NONE) | class_;
    }
}

/* Notes by the hash of their addresses, in groups of a few.  Blocks come in no
   order, so a search in sorted notes would wait for memory at each step.
   There may be as many notes as buffers, so an index of single notes would
   take more memory than the snapshot. */
struct groups {
    uintptr_t *notes;
    uint32_t *begins;             // of each group, and the end of the last
    uint32_t mask;
};

static uint32_t
group_of(const struct groups *g, uintptr_t address)
{
    return _PyTracer_Hash(address & ~CLASS_MASK) & g->mask;
}

static int
group_notes(struct groups *g, const uintptr_t *notes, size_t n)
{
    uint64_t size = 1;
    while (size < n / GROUP) {
        size *= 2;
    }
    g->mask = (uint32_t)(size - 1);
    g->begins = n < UINT32_MAX ? calloc(size + 1, sizeof(*g->begins)) : NULL;
    g->notes = malloc(n * sizeof(*g->notes));
    if (g->begins == NULL || g->notes == NULL) {
        return -1;
    }
    for (size_t i = 0; i < n; i++) {
        g->begins[group_of(g, notes[i])]++;
    }
    for (uint64_t i = 1; i <= size; i++) {
        g->begins[i] += g->begins[i - 1];
    }
    /* The ends, which become the beginnings. */
    for (size_t i = 0; i < n; i++) {
        g->notes[--g->begins[group_of(g, notes[i])]] = notes[i];
    }
    return 0;
}

/* The lowest note of an address, or 0. */
static uintptr_t
find_note(const struct groups *g, uintptr_t address)
{
    uint32_t group = group_of(g, address);
    uintptr_t found = 0;
    for (uint32_t i = g->begins[group]; i < g->begins[group + 1]; i++) {
        uintptr_t note = g->notes[i];
        if ((note & ~CLASS_MASK) == address && (found == 0 || note < found)) {
            found = note;
        }
    }
    return found;
}

static int
mark_others(const struct finder *f, const uintptr_t *notes, size_t n,
            struct snapshot_block *others, uint64_t nothers)
{
    if (n == 0) {
        return 0;                 // notes may be NULL
    }
    struct groups g = {NULL};
    int grouped = group_notes(&g, notes, n);
    for (uint64_t i = 0; grouped == 0 && i < nothers; i++) {
        if (others[i].class_ == TRACER_CLASS_MEMORY
            || others[i].class_ == f->bytearray_class)
        {
            uintptr_t note = find_note(&g, others[i].address);
            uint32_t noted = (uint32_t)(note & CLASS_MASK);
            if (note != 0 && may_be_buffer(f, others[i].class_, noted)) {
                others[i].class_ = noted;
            }
        }
    }
    free(g.begins);
    free(g.notes);
    return grouped;
}

int
_PyTracer_MarkBuffers(struct tracer_buffers *buffers,
                      struct tracer_snapshot *s, uint64_t nothers,
                      uint32_t bytearray_class)
{
    struct finder f = {
        .s = s,
        .bytearray_class = bytearray_class != SNAPSHOT_NONE
                           ? bytearray_class : TRACER_CLASS_MEMORY};
    if (index_runs(&f) < 0) {
        return -1;
    }
    uint32_t slot = 0;
    size_t nleft = 0;
    for (size_t i = 0; i < buffers->n; i++) {
        uintptr_t address = buffers->notes[i] & ~CLASS_MASK;
        uint32_t class_ = (uint32_t)(buffers->notes[i] & CLASS_MASK);
        /* Usually the pool of the last note. */
        if (slot == 0 || (s->runs[slot - 1].address ^ address) >> POOL_BITS) {
            slot = *find_run(&f, address);
        }
        if (slot != 0) {
            mark_small(&f, &s->runs[slot - 1], address, class_);
        }
        else {
            buffers->notes[nleft++] = buffers->notes[i];
        }
    }
    free(f.pools);
    return mark_others(&f, buffers->notes, nleft, s->others, nothers);
}
