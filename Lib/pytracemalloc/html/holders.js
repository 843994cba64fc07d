/* The tree of holders: who would have to let go, for how much.  It is a display
   tree as those of model.js, each box as wide as what it retains; what a holder
   has by itself is the room that its children leave. */
'use strict';

function holdersTree(model) {
  const { parents, frames, names, sizes, counts, retained } = model.raw.holders;
  const tree = displayTree({ parent: parents, frame: frames, value: retained, own: sizes, change: null });
  tree.names = names;
  tree.objects = counts;
  return tree;
}

function holderName(model, tree, node) {
  return model.strings[tree.names[node]];
}

/* Of a box or the tip: name, figures. */
function describeHolder(model, tree, node) {
  const lines = [node === 0 ? 'everything' : holderName(model, tree, node),
    `${formatBytes(tree.value[node])} retained, ${formatShare(tree.value[node], tree.value[0])} of all`];
  const count = tree.objects[node];
  if (count) {
    lines.push(`${formatBlocks(count)} ${count === 1 ? 'object' : 'objects'} of ${formatBytes(tree.own[node])}`);
  }
  const parent = tree.parent[node];
  if (parent > 0) {
    lines.push(`held by ${holderName(model, tree, parent)}`);
  }
  return lines;
}

/* What a holder holds, the largest first, as parts for the details. */
function heldBy(model, tree, node) {
  return Array.from(tree.children.subarray(tree.childStart[node], tree.childStart[node + 1]), child =>
    ['', holderName(model, tree, child), `: ${formatBytes(tree.value[child])} retained`]);
}
