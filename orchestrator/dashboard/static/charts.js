// <time-chart>: lines over time, drawn by uPlot. Its attribute data-chart has the values.
"use strict";

const DAY = 86_400;
const ofDay = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const ofYear = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });

/** A time on the axis, in the zone of the viewer. */
function moment(seconds, step) {
  return (step < DAY ? ofDay : ofYear).format(new Date(seconds * 1000));
}

class TimeChart extends HTMLElement {
  static observedAttributes = ["data-chart"];

  connectedCallback() {
    new ResizeObserver(() => this.resize()).observe(this);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    this.draw();
  }

  attributeChangedCallback() {
    if (this.isConnected) this.draw();
  }

  draw() {
    const { times, lines, unit } = JSON.parse(this.dataset.chart);
    const style = getComputedStyle(this);
    const colour = (name) => style.getPropertyValue(`--chart-${name}`).trim();
    const data = [times, ...lines.map((line) => line.values)];
    const axis = { stroke: colour("text"), grid: { stroke: colour("grid"), width: 1 }, ticks: { show: false } };
    this.chart?.destroy();
    this.chart = new uPlot(
      {
        width: this.clientWidth || 300,
        height: 180,
        legend: { show: false },
        cursor: { y: false, points: { size: 7 } },
        series: [
          {},
          ...lines.map((line) => ({
            label: line.label,
            stroke: colour(line.tone),
            fill: line.filled ? colour(`${line.tone}-fill`) : undefined,
            width: 2,
            points: { show: line.values.filter((value) => value != null).length < 40, size: 5 },
          })),
        ],
        axes: [{ ...axis, values: (_, ticks, __, ___, step) => ticks.map((tick) => moment(tick, step)) }, { ...axis, size: 56, values: (_, ticks) => ticks.map((tick) => `${tick.toLocaleString()} ${unit}`) }],
        scales: { y: { range: (_, low, high) => [0, Math.max(high * 1.1, unit ? 0.1 : 1)] } },
        hooks: { setCursor: [(chart) => this.tell(chart, lines, unit)] },
      },
      data,
      this,
    );
  }

  /** Show the values under the pointer in the legend of the figure. */
  tell(chart, lines, unit) {
    const index = chart.cursor.idx;
    const outputs = this.closest("figure")?.querySelectorAll("[data-line]") ?? [];
    outputs.forEach((output, line) => {
      const value = index == null ? null : lines[line].values[index];
      output.textContent = value == null ? "" : `${value.toLocaleString()} ${unit}`.trim();
    });
  }

  resize() {
    if (this.chart && this.clientWidth && this.chart.width !== this.clientWidth) {
      this.chart.setSize({ width: this.clientWidth, height: 180 });
    }
  }
}

customElements.define("time-chart", TimeChart);
