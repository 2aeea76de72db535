// Notes of the shipped workflows, and what their Apps call the widgets, in the language of ComfyUI's
// front end. What somebody has changed stays as it is.

import { app } from "../../scripts/app.js";

const PROPERTY = "diffusion_restoration_note"; // the key of drawing/ui.py: the workflow's name
const TITLES = { en: "Read me", zh: "说明" };

// Nodes 2.0 writes code in a blue that cannot be read on the color of a note.
const style = document.head.appendChild(document.createElement("style"));

let texts; // of all workflows, and labels: fetched when the first note is met

function language() {
    const locale = app.extensionManager?.setting?.get("Comfy.Locale") ?? "en";
    return String(locale).startsWith("zh") ? "zh" : "en";
}

async function fetched(name) {
    const answer = await fetch(new URL(`./notes/${name}.json`, import.meta.url));
    if (!answer.ok) throw new Error(`${name}.json: ${answer.status}`);
    return answer.json();
}

function showCode(notes) {
    const codes = notes.map(note => `[data-node-id="${note.id}"] .comfy-markdown-content code`);
    style.textContent = notes.length ? `${codes} { color: inherit; background: #0004; }` : "";
}

function translateNotes(notes, known, to) {
    for (const note of notes) {
        const text = known[note.properties[PROPERTY]];
        const widget = note.widgets?.[0];
        const shipped = text && Object.values(text).includes(widget?.value);
        if (!shipped || widget.value === text[to]) continue;
        widget.value = text[to];
        if (Object.values(TITLES).includes(note.title)) note.title = TITLES[to];
        note.setDirtyCanvas?.(true, true);
    }
}

function translateLabels(nodes, known, to) {
    for (const node of nodes) {
        for (const input of node.inputs ?? []) {
            const words = input.widget && known.find(each => Object.values(each).includes(input.label));
            if (!words) continue;
            input.label = words[to];
            const widget = node.widgets?.find(each => each.name === input.widget.name);
            if (widget) widget.label = words[to];
        }
    }
}

async function translate() {
    const all = app.graph?.nodes ?? [];
    const notes = all.filter(node => node.properties?.[PROPERTY]);
    showCode(notes);
    if (!notes.length) return;
    texts ??= Promise.all([fetched("texts"), fetched("labels")]).catch(() => [{}, []]);
    const [known, labels] = await texts;
    translateNotes(notes, known, language());
    translateLabels(all, labels, language());
}

app.registerExtension({
    name: "DiffusionRestoration.Notes",
    setup() {
        app.ui?.settings?.addEventListener?.("Comfy.Locale.change", translate);
    },
    afterConfigureGraph: translate,
});
