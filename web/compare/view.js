// Where a picture lies in a box: its scale and its corner, in pixels of the box.

const CLOSEST = 32; // pixels of the screen across one of the picture

export class View {
    box = [1, 1];
    picture = [1, 1];
    real = 1; // the scale at which a pixel of the picture is one of the screen
    scale = 1;
    corner = [0, 0];
    whole = true; // the picture fits the box, also when the box changes

    get fitting() {
        return Math.min(this.box[0] / this.picture[0], this.box[1] / this.picture[1]);
    }

    // Left and right end of what can be seen of the picture.
    get span() {
        const [left] = this.corner;
        const right = left + this.picture[0] * this.scale;
        return [Math.max(0, left), Math.min(this.box[0], right)];
    }

    get percent() {
        return Math.round((100 * this.scale) / this.real);
    }

    fit() {
        this.whole = true;
        this.scale = this.fitting;
        this.#settle();
    }

    // Zooms to a scale; the point `at` of the box stays over the same point of the picture.
    zoom(scale, at) {
        const least = Math.min(this.fitting, this.real);
        const next = Math.min(Math.max(scale, least), CLOSEST * this.real);
        const ratio = next / this.scale;
        this.corner = this.corner.map((corner, i) => at[i] - (at[i] - corner) * ratio);
        this.scale = next;
        this.whole = Math.abs(next / this.fitting - 1) < 1e-3;
        this.#settle();
    }

    move(by) {
        this.corner = this.corner.map((corner, i) => corner + by[i]);
        this.#settle();
    }

    resize(box, real) {
        const middle = box.map((length, i) => (length - this.box[i]) / 2);
        this.box = box;
        this.real = real;
        if (this.whole) this.fit();
        else this.move(middle);
    }

    // A picture smaller than the box lies in its middle, a larger one leaves no gap.
    #settle() {
        this.corner = this.corner.map((corner, i) => {
            const room = this.box[i] - this.picture[i] * this.scale;
            return room >= 0 ? room / 2 : Math.min(0, Math.max(room, corner));
        });
    }
}
