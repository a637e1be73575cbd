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
  const response = await fetch(url, { credentials: "same-origin" });
  if (response.ok) return response;
  throw new Error((await response.text()).trim() || `the server answered ${response.status}`);
}

export const fetchJson = async (path, params = {}) => (await fetchFrom(path, params)).json();
