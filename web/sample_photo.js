// Load Photo gets the upload button of Load Image, which ComfyUI adds to required inputs only.

import { app } from "../../scripts/app.js";

app.registerExtension({
    name: "DiffusionRestoration.SamplePhoto",
    beforeRegisterNodeDef(nodeType, definition) {
        if (definition.name !== "RestorationSamplePhoto") return;
        const { optional } = definition.input;
        optional.upload = ["IMAGEUPLOAD", { ...optional.image[1], imageInputName: "image" }];
    },
});
