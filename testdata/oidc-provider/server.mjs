// Starts the authorization server, a protected API and a few routes for tests, on a
// loopback port that the kernel chooses. Prints one line of JSON when it is ready, and
// exits when its standard input ends, so that a test that dies leaves no server behind.
//
//   --access-token-ttl=SECONDS   lifetime of access tokens (60)
//   --login=auto|page            log in "alice" without asking, or show a page (auto)
//   --dpop-nonce                 require a server-provided nonce in DPoP proofs
//   --clock-ahead=SECONDS        the server's clock is that much ahead, or behind if negative (0)
//   --clients=JSON               more clients: an array of client metadata, to which grants
//                                and redirects like those of the others are added
//   --tls=JSON                   { cert, key, ca }, files: serve https, and on a second port, to which
//                                mtls_endpoint_aliases lead, ask for certificates of clients (RFC 8705)
//   --fapi                       as FAPI 2.0 wants it: for clients of --clients alone

import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createServer as createTLSServer } from 'node:https';
import { parseArgs } from 'node:util';

// Standard output is for the ready line alone.
console.info = console.warn = console.error;

const { values: flags } = parseArgs({
  options: {
    'access-token-ttl': { type: 'string', default: '60' },
    login: { type: 'string', default: 'auto' },
    'dpop-nonce': { type: 'boolean', default: false },
    'clock-ahead': { type: 'string', default: '0' },
    clients: { type: 'string', default: '[]' },
    tls: { type: 'string' },
    fapi: { type: 'boolean', default: false },
  },
});
const accessTokenTTL = Number(flags['access-token-ttl']);
if (!Number.isInteger(accessTokenTTL) || accessTokenTTL < 1) throw new Error('--access-token-ttl: want a whole number of seconds');
if (!['auto', 'page'].includes(flags.login)) throw new Error('--login: want auto or page');
const clockAhead = 1000 * Number(flags['clock-ahead']);
if (!Number.isInteger(clockAhead)) throw new Error('--clock-ahead: want a whole number of seconds');

// Before anybody asks for the time.
if (clockAhead) {
  globalThis.Date = class extends Date {
    static now() { return super.now() + clockAhead; }

    constructor(...args) {
      super(...(args.length ? args : [Date.now()]));
    }
  };
}
const { clients, newGrant, newProvider, thumbprint } = await import('./provider.mjs');
const { loginPage } = await import('./pages.mjs');
const { Store } = await import('./store.mjs');

function answer(req, res) {
  handle(req, res).catch((err) => {
    console.error(err);
    if (!res.headersSent) send(res, err.status ?? 500, { error: err.message });
  });
}

async function listen(server) {
  await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
  return `${flags.tls ? 'https' : 'http'}://127.0.0.1:${server.address().port}`;
}

let issuer;
let mtls; // the origin where clients with a certificate are asked for it
if (flags.tls) {
  const [cert, key, ca] = ['cert', 'key', 'ca'].map((name) => readFileSync(JSON.parse(flags.tls)[name]));
  issuer = await listen(createTLSServer({ cert, key }, answer));
  // The provider decides about the certificate: it may be one that the client has signed itself.
  mtls = await listen(createTLSServer({ cert, key, ca, requestCert: true, rejectUnauthorized: false }, answer));
} else {
  issuer = await listen(createServer(answer));
}
const store = new Store();
const provider = newProvider(issuer, store, { accessTokenTTL, dpopNonce: flags['dpop-nonce'], more: JSON.parse(flags.clients), mtls, fapi: flags.fapi });
const authorizationServer = provider.callback();

// What the server has seen. Every test that cares about reuse asks for these.
const counts = { ok: {}, errors: {}, reuses: 0, revoked: 0, apiCalls: 0, apiRefused: 0, proofs: 0, repeatedProofs: 0 };
const proofs = new Set(); // the jti of each proof of possession
const add = (map, key) => { map[key] = (map[key] ?? 0) + 1; };
provider.on('grant.success', (ctx) => add(counts.ok, ctx.oidc.params.grant_type));
provider.on('grant.revoked', () => { counts.revoked += 1; });
provider.on('grant.error', (ctx, err) => {
  add(counts.errors, `${err.error}: ${err.error_detail ?? err.error_description}`);
  if (err.error_detail === 'refresh token already used') counts.reuses += 1;
});
provider.on('server_error', (ctx, err) => console.error(err));

const routes = {
  'GET /api/me': me,
  'GET /test/counts': async () => ({ ...counts, reuses: counts.reuses + store.doubleSpends }),
  'POST /test/mint': mint,
  'POST /test/approve-device': approveDevice,
  'POST /test/revoke': revoke,
  'POST /test/revoke-access-token': revokeAccessToken,
};

async function handle(req, res) {
  const { pathname } = new URL(req.url, issuer);
  if (clockAhead) res.setHeader('Date', new Date().toUTCString());
  if (req.headers.dpop) countProof(req.headers.dpop);
  if (pathname === '/me') res.on('finish', () => { counts[res.statusCode === 200 ? 'apiCalls' : 'apiRefused'] += 1; });
  if (pathname.startsWith('/login/')) return login(req, res);
  const route = routes[`${req.method} ${pathname}`];
  if (!route) return authorizationServer(req, res);
  const answer = await route(await form(req), req, res);
  if (answer) send(res, 200, answer);
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

// The protected API: it accepts exactly the access tokens that the provider would.
async function me(_, req, res) {
  const [scheme, value = ''] = (req.headers.authorization ?? '').split(' ');
  const token = await provider.AccessToken.find(value) ?? await provider.ClientCredentials.find(value);
  const bound = token?.['x5t#S256']; // RFC 8705 section 3
  if (scheme.toLowerCase() !== 'bearer' || !token?.isValid || token.tokenType !== 'Bearer' || (bound && bound !== thumbprint(req))) {
    counts.apiRefused += 1;
    const error = scheme ? ', error="invalid_token", error_description="the access token is not valid"' : '';
    res.setHeader('WWW-Authenticate', `Bearer realm="api"${error}`);
    return void send(res, 401, { error: 'invalid_token' });
  }
  counts.apiCalls += 1;
  return { sub: token.accountId, client_id: token.clientId, scope: token.scope, aud: token.aud };
}

// A login without a browser: the tokens that an authorization would have ended with.
async function mint({ client_id: clientId = 'native', account: accountId = 'alice', scope = 'openid offline_access', resource, jkt }) {
  const client = await provider.Client.find(clientId);
  if (!client) throw fail(400, `no client ${clientId}`);
  const grant = await newGrant(provider, { clientId, accountId, scope, resources: resource ? [resource] : [] });
  const login = { accountId, client, grantId: grant.jti, scope, gty: 'authorization_code' };
  const refreshToken = new provider.RefreshToken({ ...login, authTime: Math.floor(Date.now() / 1000), resource });
  const accessToken = new provider.AccessToken({ ...login, aud: resource });
  for (const token of jkt ? [refreshToken, accessToken] : []) token.setThumbprint('jkt', jkt);
  return {
    access_token: await accessToken.save(),
    token_type: accessToken.tokenType,
    expires_in: accessTokenTTL,
    refresh_token: await refreshToken.save(),
    scope,
  };
}

// The user enters the code on another device and agrees, or not (RFC 8628 section 3.3).
async function approveDevice({ user_code: userCode = '', account: accountId = 'alice', deny }) {
  const code = await provider.DeviceCode.findByUserCode(userCode.toUpperCase().replace(/\W/g, ''));
  if (!code) throw fail(400, 'no such user code');
  if (deny) {
    Object.assign(code, { error: 'access_denied', errorDescription: 'the user said no' });
  } else {
    const { scope, resource } = code.params;
    const resources = resource ? [resource].flat() : [];
    const grant = await newGrant(provider, { clientId: code.clientId, accountId, scope, resources });
    Object.assign(code, { accountId, grantId: grant.jti, scope, resource, authTime: Math.floor(Date.now() / 1000) });
  }
  await code.save();
  return {};
}

// An access token dies early. (The revocation endpoint ends the whole login with it.)
async function revokeAccessToken({ token = '' }) {
  const found = await provider.AccessToken.find(token);
  if (!found) throw fail(400, 'no such access token');
  await found.destroy();
  return {};
}

// Somebody ends the login elsewhere. Any token that ever belonged to it names it.
async function revoke({ token = '' }) {
  const options = { ignoreExpiration: true };
  const found = await provider.RefreshToken.find(token, options) ?? await provider.AccessToken.find(token, options);
  if (!found) throw fail(400, 'no such token');
  for (const model of [provider.RefreshToken, provider.AccessToken]) await model.revokeByGrantId(found.grantId);
  await (await provider.Grant.find(found.grantId))?.destroy();
  return {};
}

// The interaction of an authorization request, with a person or without.
async function login(req, res) {
  const { params, session } = await provider.interactionDetails(req, res);
  const account = params.login_hint ?? session?.accountId ?? 'alice';
  if (flags.login === 'page' && req.method === 'GET') {
    const client = await provider.Client.find(params.client_id);
    res.setHeader('Content-Type', 'text/html; charset=utf-8');
    return res.end(loginPage({ clientName: client.clientName, scope: params.scope, account }));
  }
  const answer = await form(req);
  const result = answer.decision === 'deny'
    ? { error: 'access_denied', error_description: 'the user said no' }
    : { login: { accountId: answer.account || account }, consent: {} };
  return provider.interactionFinished(req, res, result, { mergeWithLastSubmission: false });
}

async function form(req) {
  if (req.method !== 'POST') return {};
  let body = '';
  for await (const chunk of req) body += chunk;
  return Object.fromEntries(new URLSearchParams(body));
}

function send(res, status, body) {
  res.writeHead(status, { 'Content-Type': 'application/json', 'Cache-Control': 'no-store' });
  res.end(JSON.stringify(body));
}

function fail(status, message) {
  return Object.assign(new Error(message), { status });
}

process.stdin.on('close', () => process.exit(0)).resume();
console.log(JSON.stringify({
  issuer,
  api: `${mtls ?? issuer}/api/me`,
  user_info: `${issuer}/me`,
  public_client: { client_id: clients.native.client_id },
  confidential_client: { client_id: clients.confidential.client_id, client_secret: clients.confidential.client_secret },
}));
