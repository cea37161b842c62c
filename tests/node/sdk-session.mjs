// The official Node SDK against a server: node sdk-session.mjs URL CLIENT_ID CLIENT_SECRET PROFILE_ID.
// Prints as JSON what the calls gave. It has no method for certificates: that call takes the token it keeps.
import { InfisicalSDK } from "@infisical/sdk";

const [siteUrl, clientId, clientSecret, profileId] = process.argv.slice(2);
const sdk = new InfisicalSDK({ siteUrl });

const loggedIn = await sdk.auth().universalAuth.login({ clientId, clientSecret });
const login = loggedIn.auth().getAccessToken();
await new Promise((done) => setTimeout(done, 1000));
const again = await loggedIn.auth().universalAuth.renew();
const renewed = again.auth().getAccessToken();
const project = await again.projects().create({ projectName: "From Node", type: "cert-manager", slug: "from-node" });

const response = await fetch(`${siteUrl}/api/v3/pki/certificates/issue-certificate`, {
  method: "POST",
  headers: { authorization: `Bearer ${renewed}`, "content-type": "application/json" },
  body: JSON.stringify({
    profileId,
    commonName: "node.example.com",
    ttl: "1h",
    signatureAlgorithm: "ECDSA-SHA256",
    keyAlgorithm: "EC_prime256v1",
  }),
});
const { certificate } = await response.json();

const wrong = new InfisicalSDK({ siteUrl }).auth().universalAuth.login({ clientId, clientSecret: "wrong" });
const refusal = await wrong.then(
  () => null,
  (error) => error.message,
);
console.log(JSON.stringify({ login, renewed, project, status: response.status, certificate, refusal }));
