// Reads a JSON list of custom resources from standard input, and says which are not of their types.
// Kinds without a type here (Strimzi's) are counted as not looked at. Fields that a type does not know are not found.
import { readFileSync } from "node:fs";
import * as secrets from "@kubernetes-models/external-secrets/external-secrets.io/v1";
import * as keda from "@kubernetes-models/keda/keda.sh/v1alpha1";
import * as monitoring from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";

const types = { "external-secrets.io/v1": secrets, "keda.sh/v1alpha1": keda, "monitoring.coreos.com/v1": monitoring };
const counts = { valid: 0, wrong: 0, "not looked at": 0 };
for (const resource of JSON.parse(readFileSync(0, "utf8"))) {
  const Type = types[resource.apiVersion]?.[resource.kind];
  if (!Type) {
    counts["not looked at"] += 1;
    continue;
  }
  try {
    new Type(resource).validate();
    counts.valid += 1;
  } catch (error) {
    counts.wrong += 1;
    console.log(`${resource.kind} ${resource.metadata.name}: ${error.message}`);
  }
}
console.log(`custom resources: ${Object.entries(counts).map(([name, n]) => `${n} ${name}`).join(", ")}`);
process.exit(counts.wrong ? 1 : 0);
