// An OpenID-certified authorization server (oidc-provider) with its routes where Okta has them, and an API that takes
// its tokens, each on a free loopback port; both end when standard input does.
//
// Nothing is checked here that a library can check: client assertions, and DPoP proofs at the token endpoint, by
// oidc-provider; JWT access tokens, and the proofs beside them, by oauth4webapi; proofs beside opaque tokens by jose.
// What those leave to the server is below: a proof works once, and the API's own nonce.

import { createHash, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";

import { calculateJwkThumbprint, EmbeddedJWK, jwtVerify } from "jose";
import * as oauth from "oauth4webapi";
import Provider, { errors } from "oidc-provider";
import { handler as issueToClient } from "oidc-provider/lib/actions/grants/client_credentials.js";
import * as grantHelpers from "oidc-provider/lib/helpers/grants.js";

const SCOPES = "api:read api:write";
const RECENT = 300; // seconds, as oauth4webapi has it

const listening = (server) =>
  new Promise((resolve) => {
    server.listen(0, "127.0.0.1", () => resolve(`http://127.0.0.1:${server.address().port}`));
  });

const authorizationServer = createServer();
const issuer = await listening(authorizationServer);
const resourceServer = createServer();
const audience = await listening(resourceServer);

// ── the authorization server ───────────────────────────────────────────────────────────────────────────────────────

const provider = new Provider(issuer, {
  clientAuthMethods: ["private_key_jwt"],
  enabledJWA: {
    clientAuthSigningAlgValues: ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512"],
    dPoPSigningAlgValues: ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512"],
  },
  clockTolerance: 0,
  extraTokenClaims: (ctx) => ctx?.state.subject && { on_behalf_of: ctx.state.subject },
  extraClientMetadata: { properties: ["access_token_format"] },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    dPoP: { enabled: true, nonceSecret: randomBytes(32), requireNonce: () => true },
    introspection: { enabled: true },
    registration: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => audience,
      getResourceServerInfo: (_ctx, _resource, client) => ({
        scope: SCOPES,
        audience,
        accessTokenTTL: 600,
        accessTokenFormat: client.access_token_format ?? "jwt",
        jwt: { sign: { alg: "RS256" } },
      }),
    },
    revocation: { enabled: true },
    userinfo: { enabled: false },
  },
  routes: {
    introspection: "/oauth2/default/v1/introspect",
    jwks: "/oauth2/default/v1/keys",
    registration: "/oauth2/v1/clients",
    revocation: "/oauth2/default/v1/revoke",
    token: "/oauth2/default/v1/token",
  },
  scopes: SCOPES.split(" "),
  ttl: { ClientCredentials: 600 },
});
// Which check it was that refused a client is kept from clients; the tests want to know.
for (const event of ["grant.error", "introspection.error", "revocation.error"]) {
  provider.on(event, (ctx, error) => {
    const cause = error.error_detail ?? error.cause?.message ?? error.error_description;
    if (cause) ctx.set("x-refused-because", cause);
  });
}

// oidc-provider has no token exchange. The subject's token is checked by oauth4webapi; all else, the DPoP proof and the
// new token included, is done by oidc-provider's own code for client credentials.
const ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token";
const bound = Object.entries(grantHelpers).map(([name, helper]) => [name, helper.bind(undefined, provider)]);
provider.registerGrantType(
  "urn:ietf:params:oauth:grant-type:token-exchange",
  async (ctx) => {
    const { subject_token, subject_token_type, audience: wanted, requested_token_type = ACCESS_TOKEN } = ctx.oidc.params;
    if (subject_token_type !== ACCESS_TOKEN || requested_token_type !== ACCESS_TOKEN) {
      throw new errors.InvalidRequest("unsupported token type");
    }
    if (wanted !== audience) throw new errors.InvalidTarget("unknown audience");
    const sent = new Request(audience, { headers: { authorization: `Bearer ${subject_token}` } });
    try {
      ctx.state.subject = (await jwtToken(sent)).sub;
    } catch (error) {
      throw new errors.InvalidGrant(error.message);
    }
    await issueToClient(provider, Object.fromEntries(bound), ctx);
    ctx.body.issued_token_type = ACCESS_TOKEN;
  },
  ["subject_token", "subject_token_type", "audience", "requested_token_type", "resource", "scope"],
);
authorizationServer.on("request", provider.callback());

// ── the API ────────────────────────────────────────────────────────────────────────────────────────────────────────

class Refused extends Error {
  constructor(error, description, headers = {}) {
    super(description);
    Object.assign(this, { error, headers });
  }
}

const used = new Set();
const nonce = randomBytes(16).toString("base64url");
const metadata = { issuer, jwks_uri: `${issuer}/oauth2/default/v1/keys` };

async function jwtToken(request) {
  try {
    return await oauth.validateJwtAccessToken(metadata, request, audience, { [oauth.allowInsecureRequests]: true });
  } catch (error) {
    const { claim, claims } = error.cause ?? {};
    const proof = error.code === oauth.INVALID_REQUEST || claims?.htm !== undefined || claim === "cnf.jkt";
    throw new Refused(proof ? "invalid_dpop_proof" : "invalid_token", error.message);
  }
}

async function opaqueToken(request, scheme, value) {
  const token = await provider.ClientCredentials.find(value);
  if (!token) throw new Refused("invalid_token", "unknown token");
  if ((scheme === "dpop") !== (token.jkt !== undefined)) throw new Refused("invalid_token", "scheme and binding differ");
  if (token.jkt !== undefined) await checkProof(request, value, token.jkt);
  return { client_id: token.clientId, scope: token.scope };
}

async function checkProof(request, token, jkt) {
  let proof;
  try {
    proof = await jwtVerify(request.headers.get("dpop") ?? "", EmbeddedJWK, { typ: "dpop+jwt" });
  } catch (error) {
    throw new Refused("invalid_dpop_proof", error.message);
  }
  const { payload, protectedHeader } = proof;
  const url = new URL(request.url);
  const wrong = (claim) => new Refused("invalid_dpop_proof", `DPoP Proof ${claim} mismatch`);
  if (payload.htm !== request.method) throw wrong("htm");
  if (payload.htu !== url.origin + url.pathname) throw wrong("htu");
  if (!(Math.abs(Date.now() / 1000 - payload.iat) <= RECENT)) throw wrong("iat");
  if (payload.ath !== createHash("sha256").update(token).digest("base64url")) throw wrong("ath");
  if ((await calculateJwkThumbprint(protectedHeader.jwk)) !== jkt) throw wrong("jkt");
}

async function authorized(request) {
  const [scheme, value = ""] = (request.headers.get("authorization") ?? "").split(" ");
  if (!value) throw new Refused("invalid_request", "no access token");
  const isJwt = value.split(".").length === 3;
  const claims = isJwt ? await jwtToken(request) : await opaqueToken(request, scheme.toLowerCase(), value);
  const proof = request.headers.get("dpop");
  if (proof !== null) {
    const { jti, nonce: sent } = JSON.parse(Buffer.from(proof.split(".")[1], "base64url"));
    if (used.has(jti)) throw new Refused("invalid_dpop_proof", "DPoP Proof jti was used before");
    used.add(jti);
    if (new URL(request.url).pathname.includes("/nonce") && sent !== nonce) {
      throw new Refused("use_dpop_nonce", "nonce wanted", { "DPoP-Nonce": nonce });
    }
  }
  const { client_id, scope, on_behalf_of } = claims;
  return { client_id, scope, on_behalf_of, token: isJwt ? "JWT" : "opaque", scheme };
}

resourceServer.on("request", async (incoming, outgoing) => {
  const request = new Request(audience + incoming.url, { method: incoming.method, headers: incoming.headers });
  incoming.resume();
  let status = 200;
  const headers = { "Content-Type": "application/json" };
  let answer;
  try {
    answer = { ...(await authorized(request)), method: incoming.method, target: incoming.url };
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    status = 401;
    answer = { error: error.error, because: error.message };
    const proof = incoming.headers.authorization?.toLowerCase().startsWith("dpop ");
    Object.assign(headers, error.headers, {
      "WWW-Authenticate": `${proof ? "DPoP" : "Bearer"} error="${error.error}", error_description="${error.message.replaceAll('"', "'")}"`,
    });
  }
  outgoing.writeHead(status, headers).end(JSON.stringify(answer));
});

// ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const versionOf = (name) =>
  JSON.parse(readFileSync(new URL(`node_modules/${name}/package.json`, import.meta.url))).version;
console.log(
  JSON.stringify({
    issuer,
    audience,
    scopes: SCOPES,
    version: versionOf("oidc-provider"),
    oauth4webapi: versionOf("oauth4webapi"),
    jose: versionOf("jose"),
    node: process.versions.node,
  }),
);
process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
