// Requests to the page's server.

/**
 * @param {string} path
 * @param {Record<string, any>} params null, undefined, "" and false are left out; true is sent as 1
 * @throws {Error} with the server's message where it refuses
 */
export async function fetchFrom(path, params = {}) {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(params)) {
    if (value === null || value === undefined || value === "" || value === false) continue;
    query.set(key, value === true ? "1" : value);
  }
  const url = query.size ? `${path}?${query}` : path;
  return checked(await fetch(url, { credentials: "same-origin" }));
}

async function checked(response) {
  if (response.ok) return response;
  throw new Error((await response.text()).trim() || `the server answered ${response.status}`);
}

/**
 * @param {string} path
 * @param {Record<string, any>} fields
 * @throws {Error} as `fetchFrom`
 */
export async function post(path, fields) {
  const headers = { "content-type": "application/json" };
  const body = JSON.stringify(fields);
  const sent = fetch(path, { method: "POST", credentials: "same-origin", headers, body });
  return (await checked(await sent)).json();
}

export const fetchJson = async (path, params = {}) => (await fetchFrom(path, params)).json();
