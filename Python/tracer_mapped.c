/* Small blocks with a record in the address map.

   An entry holds what the allocators record. PyTraceMalloc_Track() may report
   other things about a small block: that it has no bytes, or more than fit, or
   that it is where its pool has not carved out a block yet. And the trace of a
   block that was freed without the tracer may outlive its pool: it stays until
   another is recorded at the address, as in stock. Such a block has a record
   in the map, and its entry says so: code that reads an entry first then
   leaves it to functions that call these.

   An address in the middle of a block has no entry, but may be the start of a
   block when the pool serves another size. So once the map has a record of
   that kind, a pool that gets a table looks its blocks up.

   Blocks that an interpreter with its own memory leaves behind when it ends
   have records, too: they still exist, but their pools are not known any
   more. */

#include "Python.h"
#include "pycore_tracer_blocks.h"
#include "pycore_tracer_count.h"
#include "pycore_tracer_lock.h"
#include "pycore_tracer_map.h"
#include "pycore_tracer_mapped.h"
#include "pycore_tracer_state.h"

void
_PyTracer_DropEntry(uint32_t *entry, uintptr_t address)
{
    _PyTracer_ASSERT_LOCKED();
    uint32_t old = entry == NULL ? TRACER_ENTRY_MAPPED : *entry;
    if (old == TRACER_ENTRY_MAPPED) {
        struct tracer_record record;
        if (_PyTracer_map.in_pools) {
            (void)_PyTracer_MapRemove(address, 0, &record);
        }
    }
    else if (old != 0) {
        _PyTracer_CountOut(TRACER_ENTRY_NODE(old), TRACER_ENTRY_SIZE(old), 1);
    }
    if (entry != NULL) {
        *entry = 0;
    }
}

void
_PyTracer_MapEntry(uint32_t entry, uintptr_t address, int leaked)
{
    if (entry == 0 || entry == TRACER_ENTRY_MAPPED) {
        return;
    }
    _PyTracer_ASSERT_LOCKED();
    assert(TRACER_ENTRY_NODE(entry) < _PyTracer_tree.nnodes);
    struct tracer_record record = {
        .address = address, .size = TRACER_ENTRY_SIZE(entry),
        .node = TRACER_ENTRY_NODE(entry),
        .kind = leaked ? TRACER_ENTRY_DOMAIN(entry) : TRACER_EXTERNAL};
    _PyTracer_CountOut(record.node, record.size, 1);
    if (!leaked) {
        if (_PyTracer_IsParked(record.node)) {
            return;               // all blocks of the pool are free
        }
        _PyTracer_map.in_pools = 1;
    }
    /* The block was freed here, and reappears there. */
    if (_PyTracer_MapRestore(&record) < 0) {
        _PyTracer.untraced++;
    }
}
