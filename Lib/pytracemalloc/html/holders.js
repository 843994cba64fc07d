/* The tree of holders: who would have to let go, for how much.  It is a display
   tree as those of model.js, each box as wide as what it retains; what a holder
   has by itself is the room that its children leave.  In a comparison a box has
   room for the larger of before and after. */
'use strict';

function holdersTree(model) {
  const { parents, frames, names, sizes, counts, retained, old, count_diffs: grown } = model.raw.holders;
  const tree = displayTree({
    parent: Int32Array.from(parents), frame: Int32Array.from(frames), own: Float64Array.from(sizes),
    value: old ? widthsOfHolders(parents, retained, old) : Float64Array.from(retained),
    change: old ? Float64Array.from(retained, (value, node) => value - old[node]) : null,
  });
  return Object.assign(tree, { names, retained, objects: counts, grown });
}

/* The larger of before and after of what each has by itself, added up. */
function widthsOfHolders(parents, retained, old) {
  const after = Float64Array.from(retained);
  const before = Float64Array.from(old);
  for (let node = 1; node < parents.length; node++) {
    after[parents[node]] -= retained[node];
    before[parents[node]] -= old[node];
  }
  const widths = new Float64Array(parents.length);
  for (let node = parents.length - 1; node >= 0; node--) {
    widths[node] += Math.max(after[node], before[node]);
    if (node > 0) {
      widths[parents[node]] += widths[node];
    }
  }
  return widths;
}

function holderName(model, tree, node) {
  return model.strings[tree.names[node]];
}

/* Of a box or the tip: name, figures. */
function describeHolder(model, tree, node) {
  const lines = [node === 0 ? 'everything' : holderName(model, tree, node),
    `${formatBytes(tree.retained[node])} retained, ${formatShare(tree.retained[node], tree.retained[0])} of all`];
  if (tree.change) {
    lines.push(`${formatBytes(tree.change[node], true)} since the old snapshot`);
  }
  const count = tree.objects[node];
  const grown = tree.grown ? tree.grown[node] : 0;
  if (count || grown) {
    lines.push(`${formatBlocks(count)} ${count === 1 ? 'object' : 'objects'}`
      + (count ? ` of ${formatBytes(tree.own[node])}` : '')
      + (grown ? `, ${formatBlocks(grown, true)} since then` : ''));
  }
  const parent = tree.parent[node];
  if (parent > 0) {
    lines.push(`held by ${holderName(model, tree, parent)}`);
  }
  return lines;
}

/* What a holder holds as parts for the details: the largest first or, in a
   comparison, what has changed most. */
function heldBy(model, tree, node) {
  const children = Array.from(tree.children.subarray(tree.childStart[node], tree.childStart[node + 1]));
  if (tree.change) {
    children.sort((a, b) => Math.abs(tree.change[b]) - Math.abs(tree.change[a]));
  }
  return children.map(child => ['', holderName(model, tree, child), `: ${formatBytes(tree.retained[child])} retained`
    + (tree.change ? `, ${formatBytes(tree.change[child], true)}` : '')]);
}
