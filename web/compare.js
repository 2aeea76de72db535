// Compare Before and After in ComfyUI's front end: puts the wipe on the node and brings it the pairs
// of a run. Works in the graph as it was always drawn and in Nodes 2.0.

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { Wipe } from "./compare/wipe.js";
import { wordsOf } from "./compare/words.js";

const KIND = "RestorationCompare";
const PAIRS = "restoration_compare"; // the key of nodes/compare.py
const SIZE = [440, 460];
const LEAST = 180; // pixels of height below which a picture is not worth looking at

const wipes = new Map(); // of the nodes that lie in a graph

function address({ filename, subfolder, type }) {
    const query = new URLSearchParams({ filename, subfolder: subfolder ?? "", type });
    return api.apiURL(`/view?${query}`);
}

function show(node, output) {
    const pairs = output?.[PAIRS] ?? [];
    wipes.get(node)?.show(pairs.map(pair => [address(pair.before), address(pair.after)]));
}

// The front end keeps what a run gave under the node's id, inside a subgraph with the subgraph's
// before it, and gives it back when a tab is opened again or a past run is loaded.
function showKept(outputs = app.nodeOutputs) {
    for (const node of wipes.keys()) {
        const graph = node.graph;
        const root = !graph || (graph.isRootGraph ?? true);
        show(node, outputs?.[root ? node.id : `${graph.id}:${node.id}`]);
    }
}

// The first Nodes 2.0 (front end 1.27) draws no elements of nodes, so they are put into the bodies of
// their nodes when those come, whether or not the canvas is drawn again; later ones and the old look
// have done so before.
function putIntoBodies() {
    for (const [node, wipe] of wipes) {
        if (wipe.element.isConnected) continue;
        const id = CSS.escape(`node-body-${node.id}`);
        document.querySelector(`[data-testid="${id}"]`)?.append(wipe.element);
    }
}

function chained(first, second) {
    return function (...given) {
        const result = first?.apply(this, given);
        second.apply(this, given);
        return result;
    };
}

function addWipe(node) {
    // Another language makes the front end load the graph anew.
    const words = wordsOf(app.extensionManager.setting.get("Comfy.Locale"));
    const wipe = new Wipe(words, turned => app.canvas.canvas.dispatchEvent(turned));
    const widget = node.addDOMWidget("compare", PAIRS, wipe.element, {
        serialize: false, // not an input of the node
        hideOnZoom: false,
        getMinHeight: () => LEAST,
    });
    widget.serialize = false; // nor a value of the workflow
    node.setSize([Math.max(node.size[0], SIZE[0]), Math.max(node.size[1], SIZE[1])]);
    // The two pictures that an App draws are not drawn under the wipe once more.
    node.hideOutputImages = true;
    node.onDrawBackground = () => {};
    node.onAdded = chained(node.onAdded, () => wipes.set(node, wipe));
    node.onRemoved = chained(node.onRemoved, () => {
        wipes.delete(node);
        wipe.release();
    });
    node.onExecuted = chained(node.onExecuted, output => show(node, output));
}

app.registerExtension({
    name: "DiffusionRestoration.Compare",
    setup() {
        const style = document.createElement("link");
        style.rel = "stylesheet";
        style.href = new URL("./compare/wipe.css", import.meta.url).href;
        document.head.append(style);
        const bodies = new MutationObserver(putIntoBodies);
        bodies.observe(document.body, { childList: true, subtree: true });
    },
    nodeCreated(node) {
        if (node.constructor.comfyClass === KIND) addWipe(node);
    },
    afterConfigureGraph: () => showKept(),
    onNodeOutputsUpdated: showKept,
});
