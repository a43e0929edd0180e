//! Names for apps whose maker gave none: three words that say nothing.

use kit_pg::GenericClient;
use rand::seq::IndexedRandom as _;

use crate::failure::{Answer, Failure};

/// How many names are tried. With 100,000 of them the second one is hardly ever needed.
const ATTEMPTS: usize = 20;

const ANIMALS: [&str; 48] = [
    "badgers", "bears", "beavers", "bees", "camels", "cats", "cranes", "crows", "deer", "dolphins",
    "ducks", "eagles", "eels", "falcons", "finches", "foxes", "frogs", "geese", "goats", "hares",
    "hawks", "herons", "horses", "jays", "koalas", "larks", "lions", "lizards", "llamas", "moles",
    "moths", "newts", "otters", "owls", "pandas", "penguins", "pigeons", "rabbits", "ravens",
    "robins", "seals", "sheep", "snails", "storks", "swans", "tigers", "turtles", "whales",
];
const VERBS: [&str; 44] = [
    "bake", "build", "carry", "catch", "climb", "cook", "count", "dance", "dig", "draw", "dream",
    "drift", "explore", "find", "float", "fly", "follow", "gather", "glide", "greet", "guard",
    "hide", "hum", "jump", "juggle", "knit", "laugh", "listen", "mend", "paint", "plant", "play",
    "read", "rest", "ride", "roam", "run", "sail", "sing", "skate", "swim", "travel", "wander",
    "whistle",
];
const TOWNS: [&str; 48] = [
    "aarhus", "arles", "basel", "bath", "bergen", "bilbao", "bonn", "bruges", "cadiz", "como",
    "cork", "delft", "derby", "dijon", "dover", "essen", "evora", "faro", "genoa", "ghent", "graz",
    "jena", "kiel", "lecce", "leeds", "leiden", "linz", "lucca", "lugano", "malmo", "metz",
    "nantes", "narvik", "odense", "oslo", "parma", "porto", "riga", "siena", "split", "tartu",
    "toledo", "turku", "ulm", "vaasa", "verona", "york", "zadar",
];

/// A name that no living app has. Another request may take it first; then the app's insertion says so.
pub(crate) async fn unused(db: &impl GenericClient) -> Answer<String> {
    for _ in 0..ATTEMPTS {
        let name = random();
        let query = "SELECT 1 FROM apps WHERE name = $1 AND deleted_at IS NULL";
        if db.query_opt(query, &[&name]).await?.is_none() {
            return Ok(name);
        }
    }
    Err(Failure::invalid("no unused name was found, give the app one"))
}

fn random() -> String {
    let mut rng = rand::rng();
    let mut word = |words: &[&'static str]| words.choose(&mut rng).copied().unwrap_or("app");
    format!("{}-{}-{}", word(&ANIMALS), word(&VERBS), word(&TOWNS))
}

#[cfg(test)]
mod tests {
    #[test]
    fn generated_names_are_names_of_apps() {
        for _ in 0..200 {
            let name = super::random();
            let body = serde_json::json!({ "name": name });
            let body = crate::check::object(body).unwrap();
            assert!(crate::check::app_name(&body).is_ok(), "{name}");
        }
    }
}
