/* Memory that is allocated before the moment of a snapshot, see
   tracer_rooms.c. */

#ifndef Py_INTERNAL_TRACER_ROOMS_H
#define Py_INTERNAL_TRACER_ROOMS_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

enum tracer_room_of {
    TRACER_ROOM_TEXT,
    TRACER_ROOM_STRINGS,
    TRACER_ROOM_LOCATIONS,
    TRACER_ROOM_NODES,
    TRACER_ROOM_SAVED,
    TRACER_ROOM_RARES,
    TRACER_ROOM_NATIVES,
    TRACER_ROOM_SPILLS,
    TRACER_NROOMS_OF_SUMS,
    TRACER_ROOM_PACKED = TRACER_NROOMS_OF_SUMS,       // of blocks
    TRACER_ROOM_RUNS,
    TRACER_ROOM_ARENAS,
    TRACER_ROOM_POOLS,
    TRACER_ROOM_OTHERS,
    TRACER_ROOM_NOTES,
    TRACER_NROOMS
};

struct tracer_room {
    void *p;
    size_t size;                  // bytes
};

struct tracer_rooms {
    struct tracer_room list[TRACER_NROOMS];
};

/* Make the first n rooms as large as they were needed last.  GIL not held. */
extern void _PyTracer_PrepareRooms(struct tracer_rooms *rooms, int n);
/* Room for n items at least, with what is in it; NULL: no memory. */
extern void *_PyTracer_Room(struct tracer_rooms *rooms,
                            enum tracer_room_of which, uint64_t n,
                            size_t item);
/* So many bytes were needed; locked. */
extern void _PyTracer_UsedRoom(enum tracer_room_of which, size_t size);
/* The room belongs to the caller from now on, cut to this size. */
extern void *_PyTracer_TakeRoom(struct tracer_rooms *rooms,
                                enum tracer_room_of which, size_t size);
extern void _PyTracer_FreeRooms(struct tracer_rooms *rooms);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_TRACER_ROOMS_H */
