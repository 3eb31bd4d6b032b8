import java.io.FileInputStream;
import java.security.cert.*;
import java.util.*;

/** Asks whether a certificate is revoked, as Java's own PKIX code does. */
public class Judge {
    public static void main(String[] args) throws Exception {
        CertificateFactory factory = CertificateFactory.getInstance("X.509");
        List<X509Certificate> certs = new ArrayList<>();
        for (String name : args) {
            try (FileInputStream in = new FileInputStream(name)) {
                certs.add((X509Certificate) factory.generateCertificate(in));
            }
        }
        // args: root, issuer, then what is asked about
        TrustAnchor anchor = new TrustAnchor(certs.get(0), null);
        for (int i = 2; i < certs.size(); i++) {
            CertPathValidator validator = CertPathValidator.getInstance("PKIX");
            PKIXRevocationChecker checker = (PKIXRevocationChecker) validator.getRevocationChecker();
            checker.setOptions(EnumSet.of(PKIXRevocationChecker.Option.ONLY_END_ENTITY, PKIXRevocationChecker.Option.NO_FALLBACK));
            PKIXParameters parameters = new PKIXParameters(Set.of(anchor));
            parameters.addCertPathChecker(checker);
            String said = "good";
            try {
                validator.validate(factory.generateCertPath(List.of(certs.get(i), certs.get(1))), parameters);
            } catch (CertPathValidatorException e) {
                said = e.getReason() + ": " + e.getMessage();
                if (e.getCause() instanceof CertificateRevokedException r) {
                    said = "revoked " + r.getRevocationReason();
                }
            }
            System.out.println(args[i] + " " + said);
        }
    }
}
