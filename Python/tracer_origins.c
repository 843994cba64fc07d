/* Where threads come from that Python does not know: the node of the Python
   stack that called pthread_create().  Such a thread keeps the number of its
   origin, not that of the node, which changes when the tree is pruned.
   Origins are never given back: a program makes its threads in few places.
   Locked. */

#include "Python.h"
#include "pycore_tracer_lock.h"
#include "pycore_tracer_memory.h"
#include "pycore_tracer_origins.h"
#include "pycore_tracer_tree.h"

#define MAX_ORIGINS 1024

static uint32_t *nodes;           // by number from 1; NULL: there are none
static uint32_t norigins;
static uint32_t generation;       // how often all were forgotten

#define NODES_SIZE ((MAX_ORIGINS + 1) * sizeof(*nodes))

void
_PyTracer_ForgetOrigins(void)
{
    _PyTracer_ASSERT_LOCKED();
    _PyTracer_MemFree(nodes, NODES_SIZE);
    nodes = NULL;
    norigins = 0;
    generation++;
}

struct tracer_origin
_PyTracer_OriginAt(uint32_t node)
{
    _PyTracer_ASSERT_LOCKED();
    struct tracer_origin none = {0, 0};
    if (node == TRACER_NODE_NONE
        || (nodes == NULL && (nodes = _PyTracer_MemAlloc(NODES_SIZE)) == NULL))
    {
        return none;
    }
    uint32_t i = norigins;
    while (i > 0 && nodes[i] != node) {
        i--;
    }
    if (i == 0) {
        if (norigins == MAX_ORIGINS) {
            return none;
        }
        i = ++norigins;
        nodes[i] = node;
    }
    return (struct tracer_origin){i, generation};
}

uint32_t
_PyTracer_NodeOfOrigin(const struct tracer_origin *origin)
{
    _PyTracer_ASSERT_LOCKED();
    assert(origin->generation != generation || origin->number <= norigins);
    return origin->number != 0 && origin->generation == generation
           ? nodes[origin->number] : TRACER_NODE_NONE;
}

void
_PyTracer_MarkOrigins(uint32_t *marks)
{
    for (uint32_t i = 1; i <= norigins; i++) {
        marks[nodes[i]] = 1;
    }
}

void
_PyTracer_RenumberOrigins(const uint32_t *numbers)
{
    for (uint32_t i = 1; i <= norigins; i++) {
        nodes[i] = numbers[nodes[i]];
    }
}
