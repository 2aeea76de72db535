// Notes of the shipped workflows in the language of ComfyUI's front end. A note that somebody has
// changed stays as it is.

import { app } from "../../scripts/app.js";

const PROPERTY = "diffusion_restoration_note"; // the key of drawing/ui.py: the workflow's name
const TITLES = { en: "Read me", zh: "说明" };

let texts; // of all workflows, fetched when the first note is met

function language() {
    const locale = app.extensionManager?.setting?.get("Comfy.Locale") ?? "en";
    return String(locale).startsWith("zh") ? "zh" : "en";
}

async function fetchTexts() {
    const answer = await fetch(new URL("./notes/texts.json", import.meta.url));
    return answer.ok ? answer.json() : {};
}

async function translate() {
    const notes = (app.graph?.nodes ?? []).filter(node => node.properties?.[PROPERTY]);
    if (!notes.length) return;
    texts ??= fetchTexts().catch(() => ({}));
    const known = await texts;
    const to = language();
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

app.registerExtension({
    name: "DiffusionRestoration.Notes",
    setup() {
        app.ui?.settings?.addEventListener?.("Comfy.Locale.change", translate);
    },
    afterConfigureGraph: translate,
});
