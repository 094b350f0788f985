// Starts an authorization server like those of Bluesky's users, over the provider that they run
// on, and a protected API, on a loopback port that the kernel chooses. Tokens are always bound
// to keys (RFC 9449), requests are pushed (RFC 9126), and proofs need nonces. A refresh token
// works once, and a second use ends the login. Prints one line of JSON when it is ready, and
// exits when its standard input ends.
//
//   --access-token-ttl=SECONDS   lifetime of access tokens (60)
//   --nonce-ttl=SECONDS          how often the nonce changes (60)
//   --clock-ahead=SECONDS        the server's clock is that much ahead, or behind if negative (0)

import { createServer } from 'node:http';
import { parseArgs } from 'node:util';

const { values: flags } = parseArgs({
  options: {
    'access-token-ttl': { type: 'string', default: '60' },
    'nonce-ttl': { type: 'string', default: '60' },
    'clock-ahead': { type: 'string', default: '0' },
  },
});
const clockAhead = 1000 * Number(flags['clock-ahead']);

// Before anybody asks for the time.
if (clockAhead) {
  globalThis.Date = class extends Date {
    static now() { return super.now() + clockAhead; }

    constructor(...args) {
      super(...(args.length ? args : [Date.now()]));
    }
  };
}
const { JoseKey, OAuthProvider } = await import('@atproto/oauth-provider/provider');
const { oauthMiddleware } = await import('@atproto/oauth-provider/middleware');

const server = createServer((req, res) => {
  handle(req, res).catch((err) => {
    console.error(err);
    if (!res.headersSent) send(res, 500, { error: err.message });
  });
});
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
const issuer = `http://127.0.0.1:${server.address().port}`;

// What the server has seen.
const counts = { ok: {}, errors: {}, reuses: 0, revoked: 0, apiCalls: 0, apiRefused: 0, proofs: 0, repeatedProofs: 0 };
const proofs = new Set(); // the jti of each proof
const add = (map, key) => { map[key] = (map[key] ?? 0) + 1; };

// A public client for developers, which may use any port of the loopback (atproto OAuth
// specification, "Localhost client development").
const clientId = `http://localhost?${new URLSearchParams([
  ['scope', 'atproto transition:generic'],
  ...['/', '/cb', '/callback'].map((path) => ['redirect_uri', `http://127.0.0.1${path}`]),
])}`;

// All that the provider stores. Spent refresh tokens are kept, so that a reuse is recognised.
class Store {
  requests = new Map();
  tokens = new Map(); // by id
  refresh = new Map(); // the id of the login, by any of its refresh tokens
  logins = new Map(); // by any id that they had
  devices = new Map();

  account = { did: 'did:plc:aliceaaaaaaaaaaaaaaaaaaa', pds: `${issuer}`, handle: 'alice.example.com', email: 'alice@example.com' };

  createRequest(id, data) { this.requests.set(id, data); }
  readRequest(id) { return this.requests.get(id) ?? null; }
  updateRequest(id, data) { Object.assign(this.requests.get(id), data); }
  deleteRequest(id) { this.requests.delete(id); }

  consumeRequestCode(code) {
    for (const [requestId, data] of this.requests) {
      if (data.code === code) {
        this.requests.delete(requestId);
        return { requestId, data };
      }
    }
    return null;
  }

  createToken(id, data, refreshToken) {
    this.tokens.set(id, { id, data, account: this.account, currentRefreshToken: refreshToken ?? null });
    if (refreshToken) this.refresh.set(refreshToken, id);
    this.logins.set(id, { alive: true });
  }

  readToken(id) { return this.tokens.get(id) ?? null; }

  deleteToken(id) {
    if (!this.tokens.delete(id)) return;
    this.logins.get(id).alive = false;
    counts.revoked += 1;
  }

  rotateToken(id, newId, newRefreshToken, newData) {
    const token = this.tokens.get(id);
    if (!token) {
      counts.reuses += 1; // Two requests with one token arrived together.
      throw new Error('no such token');
    }
    this.logins.set(newId, this.logins.get(id));
    this.tokens.delete(id);
    this.tokens.set(newId, { ...token, id: newId, data: { ...token.data, ...newData }, currentRefreshToken: newRefreshToken });
    for (const [refreshToken, of] of this.refresh) if (of === id) this.refresh.set(refreshToken, newId);
    this.refresh.set(newRefreshToken, newId);
  }

  findTokenByRefreshToken(refreshToken) {
    const token = this.tokens.get(this.refresh.get(refreshToken)) ?? null;
    if (token && token.currentRefreshToken !== refreshToken) counts.reuses += 1;
    return token;
  }

  findTokenByCode(code) {
    for (const token of this.tokens.values()) if (token.data.code === code) return token;
    return null;
  }

  listAccountTokens() { return [...this.tokens.values()]; }

  getAccount() { return { account: this.account, authorizedClients: new Map() }; }

  createDevice(id, data) { this.devices.set(id, data); }
  readDevice(id) { return this.devices.get(id) ?? null; }
  updateDevice(id, data) { this.devices.set(id, { ...this.devices.get(id), ...data }); }
  deleteDevice(id) { this.devices.delete(id); }

  findLexicon() { return null; }
  storeLexicon() {}
  deleteLexicon() {}
}
// What is asked for only by pages that nobody opens.
for (const name of ['createAccount', 'authenticateAccount', 'setAuthorizedClient', 'upsertDeviceAccount', 'getDeviceAccount', 'removeDeviceAccount',
  'listDeviceAccounts', 'resetPasswordRequest', 'resetPasswordConfirm', 'updateEmailRequest', 'updateEmailConfirm', 'verifyEmailRequest',
  'verifyEmailConfirm', 'verifyHandleAvailability', 'updateHandle', 'deactivateAccount', 'reactivateAccount', 'deleteAccountRequest', 'deleteAccountConfirm']) {
  Store.prototype[name] = () => { throw new Error(`${name} is not there`); };
}

const store = new Store();
const provider = new OAuthProvider({
  issuer,
  keyset: [await JoseKey.generate(['ES256'], 'test')],
  store,
  tokenMaxAge: 1000 * Number(flags['access-token-ttl']),
  dpopRotationInterval: 1000 * Number(flags['nonce-ttl']),
});
const authorizationServer = oauthMiddleware(provider, {
  onError: (req, res, err, msg) => {
    if (req.url === '/oauth/token') add(counts.errors, `${err.error ?? 'error'}: ${err.error_description ?? err.message}`);
    if (!err.error) console.error(msg, err);
  },
});

async function handle(req, res) {
  const url = new URL(req.url, issuer);
  if (clockAhead) res.setHeader('Date', new Date().toUTCString());
  if (req.headers.dpop) countProof(req.headers.dpop);
  switch (`${req.method} ${url.pathname}`) {
    case 'GET /test/counts': return send(res, 200, counts);
    case 'GET /oauth/authorize': return authorize(url, res);
    case 'GET /api/me': return me(req, url, res);
    case 'POST /oauth/token': res.on('finish', () => { if (res.statusCode === 200) add(counts.ok, 'token'); });
  }
  return authorizationServer(req, res);
}

// RFC 9449 section 4.2: no two proofs have the same jti, whatever becomes of the requests.
function countProof(proof) {
  counts.proofs += 1;
  let jti;
  try {
    ({ jti } = JSON.parse(Buffer.from(proof.split('.')[1], 'base64url')));
  } catch {
    return; // The provider will say so.
  }
  if (proofs.has(jti)) counts.repeatedProofs += 1;
  proofs.add(jti);
}

// In the place of the provider's pages: the user logs in as alice, and agrees to everything.
let devices = 0;
async function authorize({ searchParams }, res) {
  const query = Object.fromEntries(searchParams);
  if (!query.request_uri) return send(res, 400, { error: 'request_uri is required' });
  const asking = await provider.clientManager.getClient(query.client_id);
  const device = `dev-${devices += 1}`;
  const { requestUri, parameters } = await provider.processAuthorizationRequest(asking, device, query);
  const code = await provider.requestManager.setAuthorized(requestUri, asking, store.account, device, {});
  const back = new URL(parameters.redirect_uri);
  for (const [name, value] of Object.entries({ code, state: parameters.state, iss: issuer })) back.searchParams.set(name, value);
  res.writeHead(302, { Location: back.href }).end();
}

// The protected API.
async function me(req, url, res) {
  res.setHeader('DPoP-Nonce', provider.nextDpopNonce());
  try {
    const token = await provider.authenticateRequest(req.method, url, req.headers);
    if (!store.logins.get(token.jti)?.alive) throw Object.assign(new Error('the login has ended'), { wwwAuthenticateHeader: 'DPoP error="invalid_token"' });
    counts.apiCalls += 1;
    return send(res, 200, { sub: token.sub, scope: token.scope });
  } catch (err) {
    counts.apiRefused += 1;
    if (!err.wwwAuthenticateHeader) throw err;
    res.setHeader('WWW-Authenticate', err.wwwAuthenticateHeader);
    return send(res, 401, { error: err.error ?? 'invalid_token' });
  }
}

function send(res, status, body) {
  res.writeHead(status, { 'Content-Type': 'application/json', 'Cache-Control': 'no-store' });
  res.end(JSON.stringify(body));
}

process.stdin.on('close', () => process.exit(0)).resume();
console.log(JSON.stringify({ issuer, api: `${issuer}/api/me`, public_client: { client_id: clientId } }));
