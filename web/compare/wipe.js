// Two pictures over each other with a line between them: the element, and how it is used.

import { Gestures } from "./gestures.js";
import { View } from "./view.js";

const STEP = 0.02;
const WIDE_STEP = 0.1;
const CLOSER = 1.25;
const PIXELATED = 300; // percent from which single pixels are to be seen, not a soft picture

function make(kind, name, ...children) {
    const element = document.createElement(kind);
    element.className = `restoration-wipe-${name}`;
    element.append(...children);
    return element;
}

function load(address) {
    const picture = new Image();
    picture.draggable = false;
    return new Promise((resolve, reject) => {
        picture.onload = () => resolve(picture);
        picture.onerror = reject;
        picture.src = address;
    });
}

const natural = picture => [picture.naturalWidth, picture.naturalHeight];

export class Wipe {
    #words;
    #view = new View();
    #pairs = []; // addresses of before and after
    #chosen = 0;
    #pictures = null; // before and after, once they have come
    #failed = false;
    #line = 0.5; // the part of what is seen that is before
    #flipped = false;

    #layers = ["before", "after"].map(name => make("div", `layer ${name}`));
    #tags = ["before", "after"].map(name => make("span", `tag ${name}`));
    #bar = make("div", "line", make("span", "grip"));
    #note = make("p", "note");
    #stage = make("div", "stage", ...this.#layers, this.#bar, ...this.#tags, this.#note);
    #sizes = make("span", "sizes");
    #count = make("span", "count");
    #previous = make("button", "button", "‹");
    #next = make("button", "button", "›");
    #picker = make("span", "picker", this.#previous, this.#count, this.#next);
    #zoom = make("button", "button zoom");
    element = make("div", "root", this.#stage, make("div", "foot", this.#sizes, this.#picker, this.#zoom));

    // pass: takes a wheel event that is the graph's.
    constructor(words, pass) {
        this.#words = words;
        this.#stage.tabIndex = 0;
        this.#stage.setAttribute("role", "slider");
        this.#stage.setAttribute("aria-valuemin", 0);
        this.#stage.setAttribute("aria-valuemax", 100);
        this.#count.setAttribute("aria-live", "polite");
        this.#previous.onclick = () => this.#choose(this.#chosen - 1);
        this.#next.onclick = () => this.#choose(this.#chosen + 1);
        this.#zoom.onclick = () => this.#toggle(this.#middle);
        this.#stage.onkeydown = event => this.#key(event);
        this.#stage.onkeyup = event => event.key === " " && this.#flip(false);
        this.#stage.onblur = () => this.#flip(false);
        new ResizeObserver(() => this.#measure()).observe(this.#stage);
        this.gestures = new Gestures(this.#stage, {
            ready: () => this.#pictures !== null,
            measure: () => this.#measure(),
            isWhole: () => this.#view.scale <= this.#view.fitting * 1.001,
            nearLine: x => Math.abs(x - this.#lineAt) < 28,
            line: x => this.#wipeTo(x),
            move: by => this.#change(() => this.#view.move(by)),
            zoom: (factor, at) => this.#change(() => this.#view.zoom(this.#view.scale * factor, at)),
            toggle: at => this.#toggle(at),
            flip: on => this.#flip(on),
            pass,
        });
        this.#label();
        this.#draw();
    }

    // Shows these pairs of addresses; the view stays when the pictures have the size of those before.
    show(pairs) {
        const told = JSON.stringify(pairs);
        if (told === JSON.stringify(this.#pairs)) return;
        this.#pairs = pairs;
        this.#choose(Math.min(this.#chosen, Math.max(0, pairs.length - 1)));
    }

    #label() {
        const words = this.#words;
        for (const [i, name] of ["before", "after"].entries()) this.#tags[i].textContent = words[name];
        this.#stage.setAttribute("aria-label", words.line);
        const buttons = { previous: this.#previous, next: this.#next, zoom: this.#zoom };
        for (const [name, button] of Object.entries(buttons)) {
            button.type = "button";
            button.title = words[name];
            button.setAttribute("aria-label", words[name]);
        }
    }

    release() {
        this.gestures.release();
    }

    async #choose(index) {
        const pair = this.#pairs[index];
        if (!pair && this.#pairs.length) return;
        this.#chosen = index;
        const pairs = this.#pairs;
        const current = () => pairs === this.#pairs && index === this.#chosen;
        let pictures = null;
        let failed = false;
        try {
            pictures = pair ? await Promise.all(pair.map(load)) : null;
        } catch {
            failed = true;
        }
        if (!current()) return; // another one was chosen meanwhile
        this.#pictures = pictures;
        this.#failed = failed;
        for (const [i, layer] of this.#layers.entries()) {
            layer.replaceChildren(...(pictures ? [pictures[i]] : []));
            if (pictures) pictures[i].alt = this.#tags[i].textContent;
        }
        if (pictures) {
            const size = natural(pictures[1]);
            const same = size.every((length, i) => length === this.#view.picture[i]);
            this.#view.picture = size;
            if (!same) this.#view.fit();
        }
        this.#measure();
        this.#draw(); // also where there is no room to measure
    }

    get #middle() {
        return this.#view.box.map(length => length / 2);
    }

    get #lineAt() {
        const [left, right] = this.#view.span;
        return Math.round(left + this.#line * (right - left));
    }

    #wipeTo(x) {
        const [left, right] = this.#view.span;
        this.#line = Math.min(1, Math.max(0, (x - left) / Math.max(1, right - left)));
        this.#draw();
    }

    #flip(on) {
        if (on === this.#flipped) return;
        this.#flipped = on;
        this.#draw();
    }

    // The line stays where it is on the screen while the picture moves under it.
    #change(change) {
        const at = this.#lineAt;
        change();
        this.#wipeTo(at);
    }

    #toggle(at) {
        this.#measure();
        const { whole, real } = this.#view;
        this.#change(() => (whole ? this.#view.zoom(real, at) : this.#view.fit()));
    }

    #measure() {
        const { offsetWidth, offsetHeight } = this.#stage;
        if (!offsetWidth || !offsetHeight) return; // not in the page
        const shown = this.#stage.getBoundingClientRect().width / offsetWidth; // zoom of the graph
        this.#view.resize([offsetWidth, offsetHeight], 1 / (shown * devicePixelRatio));
        this.#draw();
    }

    #key(event) {
        if (event.ctrlKey || event.metaKey || event.altKey) return;
        const step = event.shiftKey ? WIDE_STEP : STEP;
        const slide = by => {
            this.#line = Math.min(1, Math.max(0, this.#line + by));
            this.#draw();
        };
        const zoom = scale => this.#change(() => this.#view.zoom(scale, this.#middle));
        const keys = {
            ArrowLeft: () => slide(-step),
            ArrowDown: () => slide(-step),
            ArrowRight: () => slide(step),
            ArrowUp: () => slide(step),
            Home: () => slide(-1),
            End: () => slide(1),
            PageUp: () => this.#choose(this.#chosen - 1),
            PageDown: () => this.#choose(this.#chosen + 1),
            "+": () => zoom(this.#view.scale * CLOSER),
            "=": () => zoom(this.#view.scale * CLOSER),
            "-": () => zoom(Math.max(this.#view.fitting, this.#view.scale / CLOSER)),
            0: () => this.#change(() => this.#view.fit()),
            1: () => zoom(this.#view.real),
            " ": () => this.#flip(true),
        };
        if (!Object.hasOwn(keys, event.key)) return;
        event.preventDefault();
        event.stopPropagation(); // else the graph takes it as one of its own keys
        if (!this.#pictures) return;
        this.#measure(); // the window may lie on another screen now
        keys[event.key]();
    }

    #draw() {
        const shown = this.#pictures !== null;
        const { box, corner, percent, picture, scale } = this.#view;
        const at = this.#flipped ? box[0] : this.#lineAt;
        this.element.classList.toggle("restoration-wipe-empty", !shown);
        this.#note.textContent = this.#failed ? this.#words.gone : this.#words.empty;
        this.#note.hidden = shown;
        this.#drawBar(shown, percent);
        if (!shown) return;
        const clips = [`inset(0 ${box[0] - at}px 0 0)`, `inset(0 0 0 ${at}px)`];
        for (const [i, layer] of this.#layers.entries()) {
            layer.style.clipPath = clips[i];
            const style = this.#pictures[i].style;
            style.width = `${picture[0] * scale}px`;
            style.height = `${picture[1] * scale}px`;
            style.translate = `${corner[0]}px ${corner[1]}px`;
            style.imageRendering = percent >= PIXELATED ? "pixelated" : "auto";
        }
        this.#bar.style.translate = `${at}px`;
        this.#bar.hidden = this.#flipped;
        const [before, after] = this.#tags;
        before.classList.toggle("restoration-wipe-away", before.offsetLeft + before.offsetWidth > at);
        after.classList.toggle("restoration-wipe-away", after.offsetLeft < at);
        const share = Math.round(100 * (this.#flipped ? 1 : this.#line));
        this.#stage.setAttribute("aria-valuenow", share);
        this.#stage.setAttribute("aria-valuetext", this.#words.share(share));
    }

    #drawBar(shown, percent) {
        const several = this.#pairs.length > 1;
        this.#picker.hidden = !several;
        this.#count.textContent = several ? `${this.#chosen + 1} / ${this.#pairs.length}` : "";
        this.#previous.disabled = this.#chosen === 0;
        this.#next.disabled = this.#chosen >= this.#pairs.length - 1;
        this.#sizes.textContent = shown ? this.#words.sizes(...this.#pictures.map(natural)) : "";
        this.#zoom.hidden = !shown;
        this.#zoom.textContent = `${percent} %`;
    }
}
