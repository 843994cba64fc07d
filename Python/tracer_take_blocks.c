/* Taking a snapshot: the live blocks.

   All of them are copied at the moment, in packed form.  What a block is must
   be found out then (tracer_types.c), since the block may be gone later; which
   blocks are the buffers of others is found out after it (tracer_buffers.c).
   Nothing here needs a lock or malloc() at the moment if memory for the
   classes has been made, as it also runs in a child
   (tracer_heap_child.c). */

#include "Python.h"

#include <stdbool.h>              // bool, for pycore_obmalloc.h

#include "pycore_obmalloc.h"      // ARENA_SIZE
#include "pycore_tracer_blocks.h"
#include "pycore_tracer_count.h"  // _PyTracer_IsLive()
#include "pycore_tracer_map.h"
#include "pycore_tracer_native_blocks.h"  // _PyTracer_SeesNative()
#include "pycore_tracer_native_stacks.h"
#include "pycore_tracer_take_blocks.h"
#include "pycore_tracer_take_tree.h"      // _PyTracer_NodeNumber()

#define PREFETCH 1024             // bytes to the blocks looked at soon
#define AHEAD 16                  // records or blocks to those
#define LOOKED_AT 4096            // bytes of a block, at most

/* --- What a block is */

static const struct { uint32_t kind; const char *name; } fixed_classes[] = {
#define FIXED(NAME, KIND, TEXT) {KIND, TEXT},
    TRACER_CLASSES(FIXED)
#undef FIXED
};

/* A number for a type that is seen for the first time. */
static void
add_class(struct tracer_blocks_copy *c, struct tracer_type *type)
{
    type->owner = _PyTracer_OwnerOfType(type->type);
    if (c->s->nclasses < SNAPSHOT_PACKED_NONE) {
        type->class_ = c->s->nclasses++;
        c->s->classes[type->class_] = (struct snapshot_class){
            .kind = TRACER_OBJECT};
    }
    else {
        type->class_ = TRACER_CLASS_OBJECT;
    }
}

/* What the block is.  If the block is too small for the object, the object is
   an old one that was there before: its buffers are ignored. */
static struct tracer_type *
type_of_object(struct tracer_blocks_copy *c, const char *block, size_t size)
{
    struct tracer_type *type = c->last;
    if (type == NULL
        || !_PyTracer_IsOfType(&c->types, block, size, type->type,
                               type->presize, 0))
    {
        type = _PyTracer_TypeOfBlock(&c->types, block, size);
        if (type == NULL) {
            return NULL;
        }
        if (type->class_ == SNAPSHOT_NONE) {
            add_class(c, type);
        }
        c->last = type;
    }
    if (type->owner != TRACER_OWNS_NOTHING
        && size >= type->presize + (size_t)type->type->tp_basicsize)
    {
        _PyTracer_NoteBuffers(&c->buffers, type->owner,
                              (PyObject *)(block + type->presize));
    }
    return type;
}

static uint32_t
class_of_object(struct tracer_blocks_copy *c, const char *block, size_t size)
{
    const struct tracer_type *type = type_of_object(c, block, size);
    return type == NULL ? TRACER_CLASS_OBJECT : type->class_;
}

/* --- Pools */

/* A run that begins with the next record; NULL: no memory.  There is always
   room for the end mark behind it. */
static struct snapshot_run *
add_run(struct tracer_blocks_copy *c, const struct tracer_pool *pool)
{
    struct tracer_snapshot *s = c->s;
    s->runs = _PyTracer_Room(c->rooms, TRACER_ROOM_RUNS,
                             (uint64_t)s->nruns + 2, sizeof(*s->runs));
    if (s->runs == NULL) {
        return NULL;
    }
    assert(pool->block_size <= SNAPSHOT_RUN_MASK);
    assert(pool->nblocks <= SNAPSHOT_RUN_MASK);
    struct snapshot_run *run = &s->runs[s->nruns];
    run->address = (uintptr_t)pool->blocks;
    run->first = s->npacked;
    run->block_size = pool->block_size & SNAPSHOT_RUN_MASK;
    run->nblocks = pool->nblocks & SNAPSHOT_RUN_MASK;
    return run;
}

/* At most a record for each block. */
static struct snapshot_packed *
make_packed(struct tracer_blocks_copy *c, const struct tracer_pool *pool)
{
    struct tracer_snapshot *s = c->s;
    s->packed = _PyTracer_Room(c->rooms, TRACER_ROOM_PACKED,
                               s->npacked + pool->nblocks,
                               sizeof(*s->packed));
    return s->packed == NULL ? NULL : s->packed + s->npacked;
}

static int
add_to_arena(struct tracer_blocks_copy *c, const struct tracer_pool *pool)
{
    struct tracer_snapshot *s = c->s;
    if (s->narenas == 0 || s->arenas[s->narenas - 1].address != pool->arena) {
        s->arenas = _PyTracer_Room(c->rooms, TRACER_ROOM_ARENAS,
                                   (uint64_t)s->narenas + 1,
                                   sizeof(*s->arenas));
        if (s->arenas == NULL) {
            return -1;
        }
        s->arenas[s->narenas++] = (struct snapshot_arena){
            .address = pool->arena, .size = ARENA_SIZE,
        };
    }
    struct snapshot_arena *arena = &s->arenas[s->narenas - 1];
    arena->used += (uint64_t)pool->nused * pool->block_size;
    arena->blocks += pool->nused;
    return 0;
}

static int
add_pool(struct tracer_blocks_copy *c, const struct tracer_pool *pool)
{
    struct tracer_snapshot *s = c->s;
    if (pool->nused == 0) {
        return 0;
    }
    s->pools = _PyTracer_Room(c->rooms, TRACER_ROOM_POOLS,
                              (uint64_t)s->npools + 1, sizeof(*s->pools));
    if (s->pools == NULL) {
        return -1;
    }
    s->pools[s->npools++] = (struct snapshot_pool){
        .address = (uintptr_t)pool->blocks - POOL_OVERHEAD,
        .block_size = (uint16_t)pool->block_size,
        .room = (uint16_t)((POOL_SIZE - POOL_OVERHEAD) / pool->block_size),
        .used = (uint16_t)pool->nused,
    };
    return 0;
}

static_assert(TRACER_POOL_BITS <= POOL_BITS
              && sizeof(PyHeapTypeObject) > TRACER_ENTRY_MAX_SIZE,
              "no heap type lies in a pool");

/* Types without buffers, which the next block is likely to have, too: blocks
   of one pool often have two by turns, such as int and float. */
#define GUESSES 2
struct guess {
    const PyTypeObject *type;     // or NULL
    uint32_t presize;
    uint32_t class_;
};

static inline uint32_t
class_of_small(struct tracer_blocks_copy *c, const char *block, uint32_t entry,
               struct guess guesses[GUESSES])
{
    uint32_t size = TRACER_ENTRY_SIZE(entry);
    if (TRACER_ENTRY_DOMAIN(entry)) {
        return TRACER_CLASS_MEMORY;
    }
    for (const struct guess *guess = guesses;
         guess < guesses + GUESSES && guess->type != NULL; guess++)
    {
        if (_PyTracer_IsOfType(&c->types, block, size, guess->type,
                               guess->presize, 1))
        {
            return guess->class_;
        }
    }
    const struct tracer_type *type = type_of_object(c, block, size);
    if (type == NULL) {
        return TRACER_CLASS_OBJECT;
    }
    if (type->owner == TRACER_OWNS_NOTHING) {
        guesses[1] = guesses[0];
        guesses[0] = (struct guess){type->type, type->presize, type->class_};
    }
    return type->class_;
}

static int
copy_pool(const struct tracer_pool *pool, void *arg)
{
    struct tracer_blocks_copy *c = arg;
    struct tracer_snapshot *s = c->s;
    if (add_to_arena(c, pool) < 0 || add_pool(c, pool) < 0) {
        return -1;
    }
    if (pool->entries == NULL) {
        return 0;
    }
    struct snapshot_run *run = add_run(c, pool);
    struct snapshot_packed *packed = make_packed(c, pool);
    if (run == NULL || packed == NULL) {
        return -1;
    }
    assert(pool->nused <= pool->nblocks && pool->block_size > 0);
    const char *p = pool->blocks;
    const uint32_t *entries = pool->entries;
    const uint32_t nblocks = pool->nblocks;
    const uint32_t block_size = pool->block_size;
    struct guess guesses[GUESSES] = {{NULL}};
    uint32_t nsmall = 0;
    uint32_t last_entry = 0;
    uint32_t last_class = SNAPSHOT_PACKED_NONE;
    for (uint32_t i = 0; i < nblocks; i++, p += block_size) {
        uint32_t id = TRACER_ENTRY_NODE(entries[i]);
        uint32_t entry = 0;
        uint32_t class_ = SNAPSHOT_PACKED_NONE;
        if (_PyTracer_IsLive(id)) {
            __builtin_prefetch(p + PREFETCH);
            uint32_t size = TRACER_ENTRY_SIZE(entries[i]);
            assert(size <= block_size);
            entry = SNAPSHOT_PACKED_ENTRY(_PyTracer_NodeNumber(id), size);
            class_ = class_of_small(c, p, entries[i], guesses);
            nsmall++;
        }
        /* A buffer may get a class of its own later. */
        if (entry != last_entry || class_ != last_class
            || class_ == TRACER_CLASS_MEMORY)
        {
            packed->entry = last_entry = entry;
            packed->place = SNAPSHOT_PACKED_PLACE(i, class_);
            packed++;
            last_class = class_;
        }
    }
    s->nsmall += nsmall;
    s->npacked = (uint64_t)(packed - s->packed);
    s->nruns += s->npacked != run->first;
    s->runs[s->nruns].first = s->npacked;
    return 0;
}

/* --- Other blocks */

/* What the block of a record is, if not of another domain.  If it was freed
   past the tracer, it may be gone. */
static uint32_t
class_of_record(struct tracer_blocks_copy *c,
                const struct tracer_record *record)
{
    switch (record->kind) {
    case TRACER_OBJECT:
        if (!_PyTracer_IsMapped(&c->mappings, record->address,
                                Py_MIN(record->size, LOOKED_AT)))
        {
            return TRACER_CLASS_OBJECT;
        }
        return class_of_object(c, (const char *)record->address,
                               record->size);
    case TRACER_MEMORY:
        return TRACER_CLASS_MEMORY;
    default:
        return TRACER_CLASS_RAW;
    }
}

/* Blocks of other domains are put at the end of the room, then next to the
   others. */
static void
copy_record(const struct tracer_record *record, void *arg)
{
    struct tracer_blocks_copy *c = arg;
    struct tracer_snapshot *s = c->s;
    int external = record->kind >= TRACER_EXTERNAL;
    struct snapshot_block *block = external
        ? &s->others[c->room - ++s->nexternal] : &s->others[c->nothers++];
    assert(c->nothers + s->nexternal <= c->room);
    block->address = record->address;
    block->size = record->size;
    block->node = _PyTracer_NodeNumber(record->node);
    block->class_ = external ? record->domain : class_of_record(c, record);
    if (record->kind == TRACER_NATIVE) {
        block->node |= SNAPSHOT_NATIVE_NODE;
    }
}

static int
copy_map(struct tracer_blocks_copy *c)
{
    struct tracer_snapshot *s = c->s;
    const struct tracer_map *map = &_PyTracer_map;
    c->room = map->used + _PyTracer_cells.used;
    s->others = _PyTracer_Room(c->rooms, TRACER_ROOM_OTHERS, c->room,
                               sizeof(*s->others));
    if (s->others == NULL) {
        return -1;
    }
    for (size_t i = 0; i <= map->mask; i++) {
        const struct tracer_record *record = &map->records[i];
        /* Records are in no order: prefetch their blocks. */
        __builtin_prefetch((const void *)
                           map->records[(i + AHEAD) & map->mask].address);
        if (_PyTracer_IsLive(record->node)) {
            copy_record(record, c);
        }
    }
    _PyTracer_VisitCells(copy_record, c);
    memmove(&s->others[c->nothers], &s->others[c->room - s->nexternal],
            s->nexternal * sizeof(*s->others));
    return 0;
}

/* --- All of them */

int
_PyTracer_PrepareBlocks(struct tracer_blocks_copy *c)
{
    struct tracer_snapshot *s = c->s;
    s->classes = _PySnapshot_Array(TRACER_NCLASSES + c->types.n,
                                   sizeof(*s->classes));
    if (s->classes == NULL) {
        return -1;
    }
    for (uint32_t i = 0; i < TRACER_NCLASSES; i++) {
        s->classes[i] = (struct snapshot_class){
            .kind = fixed_classes[i].kind};
    }
    s->nclasses = TRACER_NCLASSES;
    if (!_PyTracer_SeesNative()) {
        return 0;
    }
    s->native = _PyTracer_CopyNativeStacks();
    return s->native == NULL ? -1 : 0;
}

int
_PyTracer_CopyBlocks(struct tracer_blocks_copy *c)
{
    struct tracer_snapshot *s = c->s;
    c->buffers.rooms = c->rooms;
    s->has_blocks = 1;
    s->pool_size = POOL_SIZE;
    /* For the first snapshot the number of blocks is unknown.  Memory that is
       not written costs nothing. */
    uint64_t guess = (uint64_t)Py_MAX(_PyTracer.small_current, 0) / ALIGNMENT;
    (void)_PyTracer_Room(c->rooms, TRACER_ROOM_PACKED, guess,
                         sizeof(*s->packed));
    if (_PyTracer_VisitPools(copy_pool, c) < 0 || copy_map(c) < 0
        || c->buffers.failed)
    {
        return -1;
    }
    uint64_t nothers = c->nothers + s->nexternal;
    s->nblocks = s->nsmall + nothers;
    _PyTracer_UsedRoom(TRACER_ROOM_PACKED, s->npacked * sizeof(*s->packed));
    _PyTracer_UsedRoom(TRACER_ROOM_RUNS, s->nruns * sizeof(*s->runs));
    _PyTracer_UsedRoom(TRACER_ROOM_ARENAS, s->narenas * sizeof(*s->arenas));
    _PyTracer_UsedRoom(TRACER_ROOM_POOLS, s->npools * sizeof(*s->pools));
    _PyTracer_UsedRoom(TRACER_ROOM_OTHERS, nothers * sizeof(*s->others));
    _PyTracer_UsedRoom(TRACER_ROOM_NOTES,
                       c->buffers.n * sizeof(*c->buffers.notes));
    return 0;
}

/* --- After it */

void
_PyTracer_TakeBlocks(struct tracer_blocks_copy *c)
{
    struct tracer_snapshot *s = c->s;
    s->packed = _PyTracer_TakeRoom(c->rooms, TRACER_ROOM_PACKED,
                                   s->npacked * sizeof(*s->packed));
    s->runs = _PyTracer_TakeRoom(c->rooms, TRACER_ROOM_RUNS,
                                 (s->nruns + 1) * sizeof(*s->runs));
    s->arenas = _PyTracer_TakeRoom(c->rooms, TRACER_ROOM_ARENAS,
                                   s->narenas * sizeof(*s->arenas));
    s->pools = _PyTracer_TakeRoom(c->rooms, TRACER_ROOM_POOLS,
                                  s->npools * sizeof(*s->pools));
    s->others = _PyTracer_TakeRoom(c->rooms, TRACER_ROOM_OTHERS,
                                   (c->nothers + s->nexternal)
                                   * sizeof(*s->others));
}

static int
name_fixed_classes(struct tracer_snapshot *s)
{
    for (uint32_t i = 0; i < TRACER_NCLASSES; i++) {
        const char *name = fixed_classes[i].name;
        s->classes[i].name = i == TRACER_CLASS_MEMORY
            ? s->classes[TRACER_CLASS_OBJECT].name
            : _PySnapshot_AddString(s, name, (uint32_t)strlen(name));
        if (s->classes[i].name == SNAPSHOT_NONE) {
            return -1;
        }
    }
    return 0;
}

int
_PyTracer_FinishBlocks(struct tracer_blocks_copy *c)
{
    return _PyTracer_MarkBuffers(
               &c->buffers, c->s, c->nothers,
               _PyTracer_ClassOfType(&c->types,
                                     _PyTracer_BytearrayBufferType())) == 0
           && name_fixed_classes(c->s) == 0
           ? 0 : -1;
}
