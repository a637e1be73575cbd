// Server-sent events: changed rows of the table, and how many rows the followed runs have.

const RECONNECT_MS = 1000;

export class LiveEvents {
  /**
   * @param {(name: "runs" | "rows", data: any) => void} onEvent
   * @param {(isConnected: boolean) => void} onConnection
   */
  constructor(onEvent, onConnection) {
    this.onEvent = onEvent;
    this.onConnection = onConnection;
    this.ids = [];
    this.since = 0; // version of the table that the page has
    this.source = null;
    this.timer = null;
  }

  /** @param {string[]} ids the runs whose rows are counted */
  follow(ids) {
    const sorted = [...ids].sort();
    if (this.source && sorted.join() === this.ids.join()) return;
    this.ids = sorted;
    this.connect();
  }

  connect() {
    clearTimeout(this.timer);
    this.source?.close();
    const source = new EventSource(`/api/live?since=${this.since}&runs=${this.ids.join(",")}`);
    this.source = source;
    source.addEventListener("open", () => this.onConnection(true));
    source.addEventListener("error", () => {
      // The browser would reconnect by itself, but with the outdated version in the address.
      source.close();
      if (this.source !== source) return;
      this.onConnection(false);
      this.timer = setTimeout(() => this.connect(), RECONNECT_MS);
    });
    for (const name of /** @type {const} */ (["runs", "rows"])) {
      source.addEventListener(name, (event) => {
        const data = JSON.parse(event.data);
        if (name === "runs") this.since = data.version;
        this.onEvent(name, data);
      });
    }
  }
}
