/* Memory that is allocated before the moment of a snapshot.

   While the tracer is copied no other thread runs, and fresh memory would take
   as long as the copy: a page fault for each page.  So memory as large as the
   last snapshot's is allocated and touched before the GIL is held.  If that is
   too little, more is allocated at the moment. */

#include "Python.h"
#include "pycore_tracer_lock.h"
#include "pycore_tracer_snapshot.h"
#include "pycore_tracer_rooms.h"

#include <stdlib.h>

#define PAGE 4096                 // or larger: then some are touched twice

/* Bytes that the last snapshot used, locked. */
static size_t last_used[TRACER_NROOMS];

static int
set_room(struct tracer_room *room, void *p, size_t size)
{
    if (p == NULL) {
        return -1;
    }
    room->p = p;
    room->size = size;
    return 0;
}

void
_PyTracer_PrepareRooms(struct tracer_rooms *rooms, int n)
{
    size_t used[TRACER_NROOMS];
    assert(0 <= n && n <= TRACER_NROOMS);
    _PyTracer_Lock();
    memcpy(used, last_used, sizeof(used));
    _PyTracer_Unlock();
    for (int i = 0; i < n; i++) {
        struct tracer_room *room = &rooms->list[i];
        size_t size = used[i] + used[i] / 8;
        if (size != 0
            && set_room(room, _PySnapshot_Array(size, 1), size) == 0)
        {
            size_t touched = used[i] + used[i] / 32;
            for (size_t offset = 0; offset < touched; offset += PAGE) {
                ((volatile char *)room->p)[offset] = 0;
            }
        }
    }
}

void *
_PyTracer_Room(struct tracer_rooms *rooms, enum tracer_room_of which,
               uint64_t n, size_t item)
{
    assert(which < TRACER_NROOMS && item > 0);
    struct tracer_room *room = &rooms->list[which];
    if (n > PTRDIFF_MAX / 2 / item) {
        return NULL;
    }
    size_t size = n == 0 ? 1 : (size_t)n * item;
    if (size <= room->size) {
        return room->p;
    }
    /* Never by malloc(): this may be a child, where its locks are not free. */
    size = Py_MAX(size, Py_MAX(room->size * 2, SNAPSHOT_LARGE));
    void *p = room->p == NULL ? _PySnapshot_Room(size, 1)
                              : _PySnapshot_Resize(room->p, size, 1);
    return set_room(room, p, size) < 0 ? NULL : p;
}

void
_PyTracer_UsedRoom(enum tracer_room_of which, size_t size)
{
    _PyTracer_ASSERT_LOCKED();
    last_used[which] = size;
}

void *
_PyTracer_TakeRoom(struct tracer_rooms *rooms, enum tracer_room_of which,
                   size_t size)
{
    assert(which < TRACER_NROOMS);
    struct tracer_room *room = &rooms->list[which];
    assert(room->p == NULL || size <= room->size);
    void *p = size < room->size ? _PySnapshot_Resize(room->p, size, 1) : NULL;
    p = p == NULL ? room->p : p;
    *room = (struct tracer_room){NULL};
    return p;
}

void
_PyTracer_FreeRooms(struct tracer_rooms *rooms)
{
    for (int i = 0; i < TRACER_NROOMS; i++) {
        _PySnapshot_Release(rooms->list[i].p);
    }
}
