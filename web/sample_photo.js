// Sample Photo shows its photo before the first run, as Load Image does.

import { app } from "../../scripts/app.js";

const LEAST = 120;

app.registerExtension({
    name: "DiffusionRestoration.SamplePhoto",
    nodeCreated(node) {
        if (node.constructor.comfyClass !== "RestorationSamplePhoto") return;
        const photo = new Image();
        photo.src = new URL("./photos/sample.jpg", import.meta.url).href;
        photo.alt = "";
        photo.draggable = false;
        photo.style.objectFit = "contain";
        const widget = node.addDOMWidget("photo", "restoration_photo", photo, {
            serialize: false, // not an input of the node
            hideOnZoom: false,
            getMinHeight: () => LEAST,
        });
        widget.serialize = false; // nor a value of the workflow
        node.setSize([Math.max(node.size[0], 280), Math.max(node.size[1], 280)]);
    },
});
