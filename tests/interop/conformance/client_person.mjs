// A user at the pages of the broker, by plain HTTP: cookies, forms, and redirects.
import http from 'node:http';

const unescaped = (text) => text.replaceAll('&quot;', '"').replaceAll('&lt;', '<').replaceAll('&gt;', '>').replaceAll('&amp;', '&');
const attribute = (tag, name) => unescaped(tag.match(new RegExp(`${name}="([^"]*)"`))?.[1] ?? '');

class Page {
  constructor(url, status, text) {
    Object.assign(this, { url, status, text });
  }

  // The page in short, for errors.
  get brief() {
    const text = this.text.replace(/<style[\s\S]*?<\/style>|<[^>]*>/g, ' ').replace(/\s+/g, ' ').trim();
    return `${this.status} at ${this.url}: ${text.slice(0, 400)}`;
  }

  // The last form: its action, and its hidden fields.
  get form() {
    const start = this.text.lastIndexOf('<form ');
    if (start < 0) throw new Error(`no form, ${this.brief}`);
    const form = this.text.slice(start);
    const inputs = [...form.matchAll(/<input [^>]*type="hidden"[^>]*>/g)].map(([tag]) => tag);
    return { action: attribute(form, 'action'), fields: inputs.map((tag) => [attribute(tag, 'name'), attribute(tag, 'value')]) };
  }
}

export class Person {
  #cookies = new Map();

  // `origin` is the public one of the broker; it listens at `target`.
  constructor(origin, target) {
    Object.assign(this, { origin, target });
  }

  // Opens a page, and follows redirects within the broker. A redirect elsewhere is returned as a page
  // with a `location`. `site` is from where the browser comes.
  async open(url, site = 'none') {
    return this.#visit('GET', new URL(url, this.origin), '', site);
  }

  async submit(page, values) {
    const { action, fields } = page.form;
    const body = new URLSearchParams([...fields, ...Object.entries(values)]).toString();
    return this.#visit('POST', new URL(action, page.url), body, 'same-origin');
  }

  async #visit(method, url, body, site) {
    for (let count = 0; count < 10; count += 1) {
      const response = await this.#send(method, url, body, site);
      const page = new Page(url.href, response.status, response.text);
      if (!response.location) return page;
      const next = new URL(response.location, url);
      if (next.origin !== this.origin) return Object.assign(page, { location: next.href });
      [method, url, body] = ['GET', next, ''];
    }
    throw new Error(`too many redirects, the last one to ${url}`);
  }

  async #send(method, url, body, site) {
    const headers = {
      host: new URL(this.origin).host, connection: 'close', 'sec-fetch-site': site,
      cookie: [...this.#cookies].map(([name, value]) => `${name}=${value}`).join('; '),
    };
    if (method === 'POST') {
      Object.assign(headers, {
        origin: this.origin, 'content-type': 'application/x-www-form-urlencoded', 'content-length': Buffer.byteLength(body),
      });
    }
    const response = await send(this.target, method, url, headers, body);
    for (const cookie of response.headers['set-cookie'] ?? []) {
      const [, name, value] = cookie.match(/^([^=]+)=([^;]*)/);
      this.#cookies.set(name, value);
    }
    return { status: response.status, text: response.text, location: response.headers.location };
  }
}

// Sends a request for a URL to the broker, which listens at `target`; `Host` may be any.
export function send(target, method, url, headers, body = '') {
  const { hostname, port } = new URL(target);
  const { pathname, search } = new URL(url);
  return new Promise((resolve, reject) => {
    const request = http.request({ hostname, port, method, path: pathname + search, headers }, async (response) => {
      try {
        const chunks = await response.toArray();
        resolve({ status: response.statusCode, headers: response.headers, text: Buffer.concat(chunks).toString() });
      } catch (error) {
        reject(error);
      }
    });
    request.on('error', reject);
    request.end(body);
  });
}
