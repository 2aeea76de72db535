// Mouse, pen and fingers on the wipe, told in its own words: line, move, zoom, flip.

const HOLD = 180; // milliseconds after which a press is a look at the picture before
const STILL = 4; // pixels that a resting hand moves

const distance = ([a, b]) => Math.hypot(a[0] - b[0], a[1] - b[1]);
const between = ([a, b]) => [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2];

export class Gestures {
    #stage;
    #wipe;
    #pointers = new Map(); // pressed ones, and where they are
    #press = null; // of the first of them
    #entered = null; // where the mouse came in
    #mine = false; // it has moved since: turning its wheel means the picture
    #onWheel = event => this.#wheel(event);
    #onTouch = event => this.#stage.contains(event.target) && event.stopPropagation();

    constructor(stage, wipe) {
        this.#stage = stage;
        this.#wipe = wipe;
        stage.onpointerenter = event => this.#enter(event);
        stage.onpointerleave = () => this.#pointers.size || this.release();
        stage.onpointerdown = event => this.#down(event);
        stage.onpointermove = event => this.#move(event);
        stage.onpointerup = event => this.#up(event);
        stage.onpointercancel = event => this.#up(event);
        stage.ondblclick = event => {
            if (wipe.ready()) wipe.toggle(this.#place(event));
        };
        // The browser's own menu, to save the picture under the mouse.
        stage.oncontextmenu = event => event.stopPropagation();
    }

    release() {
        this.#pointers.clear();
        removeEventListener("wheel", this.#onWheel, { capture: true });
        removeEventListener("touchmove", this.#onTouch, { capture: true });
        clearTimeout(this.#press?.hold);
    }

    // In pixels of the stage, which the graph may draw larger or smaller.
    #place(event) {
        const { left, top, width } = this.#stage.getBoundingClientRect();
        const shown = width / this.#stage.offsetWidth;
        return [(event.clientX - left) / shown, (event.clientY - top) / shown];
    }

    #enter(event) {
        this.#wipe.measure(); // the graph may have been zoomed meanwhile
        this.#entered = [event.clientX, event.clientY];
        this.#mine = false;
        // Before the front end, which takes wheel and fingers on their way down.
        addEventListener("wheel", this.#onWheel, { capture: true, passive: false });
        addEventListener("touchmove", this.#onTouch, { capture: true }); // else two fingers zoom both
    }

    #down(event) {
        event.stopPropagation(); // else the graph drags the node
        if (event.button !== 0 || !this.#wipe.ready()) return;
        this.#stage.focus({ preventScroll: true });
        this.#stage.setPointerCapture(event.pointerId);
        const at = this.#place(event);
        this.#pointers.set(event.pointerId, at);
        clearTimeout(this.#press?.hold);
        this.#wipe.flip(false);
        if (this.#pointers.size > 1) return;
        const touch = event.pointerType === "touch";
        this.#press = {
            from: at,
            moved: false,
            line: touch && (this.#wipe.isWhole() || this.#wipe.nearLine(at[0])),
            hold: setTimeout(() => this.#wipe.flip(true), HOLD),
        };
    }

    #move(event) {
        event.stopPropagation();
        if (!this.#wipe.ready()) return;
        const [x, y] = this.#entered ?? [];
        if (event.clientX !== x || event.clientY !== y) this.#mine = true;
        const at = this.#place(event);
        const last = this.#pointers.get(event.pointerId);
        if (!last) {
            if (event.pointerType !== "touch") this.#wipe.line(at[0]);
        } else if (this.#pointers.size > 1) {
            this.#pinch(event.pointerId, at);
        } else {
            this.#drag(last, at);
            this.#pointers.set(event.pointerId, at);
        }
    }

    #drag(last, at) {
        const press = this.#press;
        if (!press.moved) {
            if (distance([press.from, at]) < STILL) return;
            press.moved = true;
            clearTimeout(press.hold);
        }
        if (press.line) this.#wipe.line(at[0]);
        else this.#wipe.move([at[0] - last[0], at[1] - last[1]]);
    }

    #pinch(pointer, at) {
        const before = [...this.#pointers.values()].slice(0, 2);
        this.#pointers.set(pointer, at);
        const now = [...this.#pointers.values()].slice(0, 2);
        const [from, to] = [between(before), between(now)];
        this.#wipe.move([to[0] - from[0], to[1] - from[1]]);
        this.#wipe.zoom(distance(now) / Math.max(1, distance(before)), to);
    }

    #up(event) {
        event.stopPropagation();
        if (!this.#pointers.delete(event.pointerId)) return;
        clearTimeout(this.#press?.hold);
        this.#wipe.flip(false);
    }

    #wheel(event) {
        if (!this.#stage.isConnected) this.release();
        if (!this.#stage.contains(event.target) || !this.#wipe.ready()) return;
        const out = event.deltaY > 0;
        // A graph that scrolls by under a resting mouse goes on scrolling, and who turns back from
        // the whole picture goes on with the graph.
        if (!this.#mine || (out && this.#wipe.isWhole())) {
            this.#pass(event);
            return;
        }
        event.preventDefault();
        event.stopPropagation();
        const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 33 : 1;
        const turned = Math.max(-200, Math.min(200, event.deltaY * lines));
        this.#wipe.zoom(Math.exp(-turned / 500), this.#place(event));
    }

    // Nodes 2.0 hands the wheel to the graph by itself; what lies over the old graph does not.
    #pass(event) {
        if (!this.#stage.closest(".dom-widget")) return;
        event.preventDefault();
        event.stopPropagation();
        this.#wipe.pass(new WheelEvent("wheel", event));
    }
}
