// The authorization server itself: oidc-provider with the strictest rotation there is.
// Every refresh token works once; a second use ends the login.

import { createHash, generateKeyPairSync, randomBytes } from 'node:crypto';
import { Provider } from 'oidc-provider';
import { page } from './pages.mjs';

const grantTypes = ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'];
const loopback = ['127.0.0.1', '[::1]'].flatMap((host) => ['/', '/cb', '/callback'].map((path) => `http://${host}${path}`));

// Confidential clients must form-urlencode their secret before it goes into a Basic
// header (RFC 6749 section 2.3.1), so this one does not survive unless they do.
const secret = `${randomBytes(24).toString('base64url')} :%+/`;

const confidential = {
  grant_types: [...grantTypes, 'client_credentials'],
  redirect_uris: loopback,
  application_type: 'native',
  id_token_signed_response_alg: 'ES256',
};

export const clients = {
  // A native application: public, PKCE, any loopback port (RFC 8252).
  native: {
    client_id: 'native',
    client_name: 'A native application',
    application_type: 'native',
    token_endpoint_auth_method: 'none',
    grant_types: grantTypes,
    redirect_uris: loopback,
    id_token_signed_response_alg: 'ES256',
  },
  // A confidential client with client_secret_basic.
  confidential: {
    ...confidential,
    client_id: 'confidential',
    client_name: 'A confidential client',
    client_secret: secret,
  },
};

const certificate = (req) => req.socket.getPeerX509Certificate?.();

// thumbprint names the certificate with which a request came (RFC 8705 section 3.1).
export const thumbprint = (req) => {
  const cert = certificate(req);
  return cert && createHash('sha256').update(cert.raw).digest('base64url');
};

export function newProvider(issuer, store, { accessTokenTTL, dpopNonce, more, mtls, fapi }) {
  const signingKey = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ format: 'jwk' });
  const resourceServer = () => ({ scope: 'api', accessTokenFormat: 'opaque', accessTokenTTL });

  return new Provider(issuer, {
    adapter: store.adapter,
    clients: [...(fapi ? [] : Object.values(clients)), ...more.map((client) => ({ ...confidential, ...client }))],
    clientDefaults: { id_token_signed_response_alg: 'ES256' }, // of clients that register themselves
    jwks: { keys: [{ ...signingKey, alg: 'ES256', use: 'sig', kid: 'test' }] },
    cookies: { keys: [randomBytes(16).toString('hex')] },
    scopes: ['openid', 'offline_access', 'api'],
    clockTolerance: 0,
    // The provider does not know of its second port.
    discovery: mtls && {
      mtls_endpoint_aliases: Object.fromEntries(Object.entries({
        token_endpoint: '/token', revocation_endpoint: '/token/revocation', device_authorization_endpoint: '/device/auth', pushed_authorization_request_endpoint: '/request',
      }).map(([name, path]) => [name, mtls + path])),
    },
    ...(mtls && {
      clientAuthMethods: [...(fapi ? [] : ['none', 'client_secret_basic']), 'private_key_jwt', 'tls_client_auth', 'self_signed_tls_client_auth'],
    }),
    ...(fapi && {
      enabledJWA: { clientAuthSigningAlgValues: ['PS256', 'ES256', 'EdDSA'] },
    }),
    ttl: {
      AccessToken: accessTokenTTL,
      ClientCredentials: accessTokenTTL,
      DeviceCode: 600,
      Grant: 86400,
      IdToken: 3600,
      Interaction: 3600,
      RefreshToken: 86400,
      Session: 86400,
    },

    rotateRefreshToken: () => true,
    issueRefreshToken: async (ctx, client) => client.grantTypeAllowed('refresh_token'),
    expiresWithSession: async () => false,

    findAccount: async (ctx, sub) => ({ accountId: sub, claims: async () => ({ sub }) }),
    // Whoever logs in has agreed to what was asked. Each authorization is a grant of its
    // own, so that ending one login leaves the others alone.
    loadExistingGrant: async ({ oidc }) => newGrant(oidc.provider, {
      clientId: oidc.client.clientId,
      accountId: oidc.session.accountId,
      scope: oidc.params.scope,
      resources: Object.keys(oidc.resourceServers),
    }),
    interactions: { url: (ctx, { uid }) => `/login/${uid}` },
    renderError: async (ctx, out) => {
      ctx.type = 'html';
      ctx.body = page('Request refused', Object.entries(out).map(([name, value]) => ({ name, value })));
    },

    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      registration: { enabled: true }, // open to all (RFC 7591)
      introspection: { enabled: true, allowedPolicy: async (ctx, client, token) => token.clientId === client.clientId },
      revocation: { enabled: true, allowedPolicy: async (ctx, client, token) => token.clientId === client.clientId },
      pushedAuthorizationRequests: { enabled: true, requirePushedAuthorizationRequests: fapi },
      fapi: { enabled: fapi, profile: fapi ? '2.0' : undefined },
      mTLS: {
        enabled: Boolean(mtls),
        certificateBoundAccessTokens: true,
        selfSignedTlsClientAuth: true,
        tlsClientAuth: true,
        getCertificate: (ctx) => certificate(ctx.req),
        certificateAuthorized: (ctx) => ctx.req.socket.authorized,
        certificateSubjectMatches: (ctx, property, expected) => property === 'tls_client_auth_subject_dn' && certificate(ctx.req).subject === expected,
      },
      dPoP: { enabled: true, nonceSecret: randomBytes(32), requireNonce: () => dpopNonce },
      resourceIndicators: { enabled: true, getResourceServerInfo: resourceServer },
      deviceFlow: {
        enabled: true,
        userCodeInputSource: async (ctx, form, out, err) => {
          ctx.body = page('Connect a device', [{ value: err ? 'That code is not valid.' : 'Enter the code that your device shows.' }], form + '<button type="submit" form="op.deviceInputForm">Continue</button>');
        },
        userCodeConfirmSource: async (ctx, form, client, deviceInfo, userCode) => {
          ctx.body = page('Connect a device', [{ name: client.clientName, value: userCode }], `${form}
            <button type="submit" form="op.deviceConfirmForm">Continue</button>
            <button type="submit" form="op.deviceConfirmForm" name="abort" value="yes">Deny</button>`);
        },
        successSource: async (ctx) => {
          ctx.body = page('Device connected', [{ value: 'You can close this page.' }]);
        },
      },
    },
  });
}

// newGrant records that an account allows a client the scopes and resources.
export async function newGrant(provider, { clientId, accountId, scope = 'openid', resources = [] }) {
  const grant = new provider.Grant({ clientId, accountId });
  grant.addOIDCScope(scope);
  for (const resource of resources) grant.addResourceScope(resource, scope);
  await grant.save();
  return grant;
}
