// What the wipe says, in the languages of the pack.

const size = ([width, height]) => `${width} × ${height}`;
const same = (before, after) => before[0] === after[0] && before[1] === after[1];

const ENGLISH = {
    before: "Before",
    after: "After",
    line: "Line between before and after",
    share: percent => `${percent} % before`,
    empty: "Run the workflow to see before and after here.",
    gone: "The pictures of this run are no longer there. Run the workflow again.",
    previous: "Previous picture",
    next: "Next picture",
    zoom: "Whole picture or single pixels",
    sizes: (before, after) =>
        same(before, after)
            ? `${size(after)} pixels`
            : `from ${size(before)} to ${size(after)} pixels`,
};

const CHINESE = {
    before: "修复前",
    after: "修复后",
    line: "修复前与修复后的分界线",
    share: percent => `修复前占 ${percent} %`,
    empty: "运行工作流后，这里显示修复前后的对比。",
    gone: "这次运行的图像已不存在，请重新运行工作流。",
    previous: "上一张",
    next: "下一张",
    zoom: "整幅画面或单个像素",
    sizes: (before, after) =>
        same(before, after)
            ? `${size(after)} 像素`
            : `从 ${size(before)} 到 ${size(after)} 像素`,
};

export function wordsOf(locale) {
    return String(locale ?? "en").startsWith("zh") ? CHINESE : ENGLISH;
}
