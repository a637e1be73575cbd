// What the server answers to one question; asked again when the question or the runs change.

import { fetchJson } from "./api.js";

const PAUSE_MS = 1000; // between two requests while runs change
const PAUSE = 4; // times as long as a request took

export class Answer {
  /**
   * @param {string} path
   * @param {(answer: any) => void} onAnswer {error} if there is none
   * @param {() => void} onPause after a pause in which nothing was asked: to ask again
   */
  constructor(path, onAnswer, onPause) {
    this.path = path;
    this.onAnswer = onAnswer;
    this.onPause = onPause;
    this.mark = "";
    this.asked = "";
    this.timer = 0;
  }

  // Requests it unless that is known; where only the version of the runs changed, after a pause.
  ask(params, version) {
    const asked = JSON.stringify(params);
    const mark = `${asked} ${version}`;
    if (mark === this.mark || (asked === this.asked && this.timer)) return;
    this.asked = asked;
    this.mark = mark;
    this.fetch(params, mark);
  }

  pause(ms) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.timer = 0;
      this.onPause();
    }, ms);
  }

  async fetch(params, mark) {
    const begun = performance.now();
    this.pause(PAUSE_MS);
    let answer;
    try {
      answer = await fetchJson(this.path, params);
    } catch (error) {
      answer = { error: error.message };
    }
    if (mark !== this.mark) return;
    this.pause(Math.max(PAUSE_MS, PAUSE * (performance.now() - begun)));
    this.onAnswer(answer);
  }
}
