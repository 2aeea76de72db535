// Leaves one node of a loaded workflow with its neighbors, folded, and puts them where they are
// photographed. Returns the height in pixels of the screen, and the scale.
async ([workflow, kind, width, left, top]) => {
    await app.loadGraphData(workflow, true, true, "help");
    const graph = app.graph, margin = 8, gap = 34, row = 40, bar = 30;
    let node = graph.nodes.find(each => each.type === kind);
    if (!node) {  // no workflow has it: it takes what others take under the same names
        node = LiteGraph.createNode(kind);
        graph.add(node);
        const links = graph.nodes.flatMap(each => each.inputs.map((input, slot) => [each, input, slot]));
        for (const [slot, input] of node.inputs.entries()) {
            const alike = links.findLast(([each, other, at]) => each !== node
                && other.name === input.name && other.type === input.type && each.getInputNode(at));
            const link = alike && graph.getLink(alike[1].link);
            if (link) graph.getNodeById(link.origin_id).connect(link.origin_slot, node, slot);
        }
        for (const slot of node.outputs.keys()) {
            const shown = LiteGraph.createNode("PreviewImage");
            graph.add(shown);
            node.connect(slot, shown, 0);
        }
    }
    const unique = nodes => [...new Set(nodes.filter(Boolean))];
    const before = unique(node.inputs.map((_, slot) => node.getInputNode(slot)));
    const after = unique(node.outputs.flatMap((_, slot) => node.getOutputNodes(slot) ?? []))
        .filter(each => !before.includes(each));
    for (const each of [...graph.nodes])
        if (each !== node && !before.includes(each) && !after.includes(each)) graph.remove(each);
    for (const group of [...graph.groups]) graph.remove(group);
    for (const each of [...before, ...after])
        for (const slot of each.inputs.keys())
            if (each.getInputNode(slot) && each.getInputNode(slot) !== node) each.disconnectInput(slot);
    for (const each of [...before, ...after]) if (!each.flags.collapsed) each.collapse();
    node.title = node.constructor.title;
    app.canvas.draw(true, true);  // this is where a folded node gets its width
    const widest = nodes => Math.max(0, ...nodes.map(each => each._collapsed_width));
    const pen = app.canvas.ctx;
    pen.font = node.titleFontStyle;
    const least = node.computeSize();
    least[0] = Math.max(least[0], pen.measureText(node.title).width + 2 * bar);
    const beside = nodes => nodes.length && gap + widest(nodes);
    // Beside what goes in there is only room for the links that go out.
    const x = -beside(before), out = before.length ? after.length && gap : beside(after);
    const room = (width - 2 * margin) / 1.2 + x - out;
    node.setSize([Math.max(least[0], Math.min(room, 400)), least[1]]);
    const place = (nodes, left) => nodes.forEach((each, at) => {
        each.pos = [left(each), node.size[1] / 2 + (at - (nodes.length - 1) / 2) * row];
    });
    node.pos = [0, 0];
    place(before, each => -gap - each._collapsed_width);
    place(after, () => node.size[0] + gap + (before.length && margin));
    const right = node.size[0] + out;
    const tall = Math.max(node.size[1] + bar, row * Math.max(before.length, after.length));
    const scale = Math.min(1.4, (width - 2 * margin) / (right - x));
    const middle = (node.size[1] - bar) / 2, height = Math.ceil(scale * tall + 2 * margin);
    const around = app.canvasEl.getBoundingClientRect(), ds = app.canvas.ds;
    ds.scale = scale;
    ds.offset = [(left + width / 2 - around.x) / scale - (x + right) / 2,
                 (top + height / 2 - around.y) / scale - middle];
    app.canvas.deselectAll?.();
    app.canvas.setDirty(true, true);
    return [height, scale];
}
