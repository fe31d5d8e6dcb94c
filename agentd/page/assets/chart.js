// A sparkline: the last values as an area under a line.

const SVG = "http://www.w3.org/2000/svg";
/** One value every two seconds: two minutes. */
const VALUES = 60;

export class Sparkline {
  /** `atLeast`: what the full height stands for while all values are below it. */
  constructor(svg, atLeast) {
    this.values = [];
    this.atLeast = atLeast;
    svg.setAttribute("viewBox", "0 0 100 30");
    svg.setAttribute("preserveAspectRatio", "none");
    this.area = svg.appendChild(document.createElementNS(SVG, "path"));
    this.area.setAttribute("class", "area");
    const base = svg.appendChild(document.createElementNS(SVG, "path"));
    base.setAttribute("class", "base");
    base.setAttribute("d", "M0 29.5H100");
    this.stroke = svg.appendChild(document.createElementNS(SVG, "path"));
    this.stroke.setAttribute("class", "stroke");
  }

  push(value) {
    this.values.push(value);
    if (this.values.length > VALUES) this.values.shift();
    const top = Math.max(this.atLeast, ...this.values) * 1.05;
    const start = VALUES - this.values.length;
    const points = this.values.map((each, index) => {
      const x = ((start + index) * 100) / (VALUES - 1);
      return `${x.toFixed(2)} ${(29 - (28 * each) / top).toFixed(2)}`;
    });
    const first = points[0].split(" ")[0];
    this.stroke.setAttribute("d", `M${points.join("L")}`);
    this.area.setAttribute("d", `M${first} 29L${points.join("L")}L100 29Z`);
  }
}
